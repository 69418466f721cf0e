"""Synthetic pedestrians: identities, cameras, images, and the published layouts they are stored in.

person, patterns, body, camera and render are pure functions of their arguments and of the random generator they
are given; layouts plans files and reads the official split; writing alone puts images on the disk.
"""
