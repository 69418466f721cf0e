"""Synthetic pedestrians: identities, cameras, images, and the published layouts they are stored in.

person, patterns, pose, body, camera and render are pure functions of their arguments and of the random generator they
are given. layouts and sysu_layout plan files (planned.py: what a plan is). request.py says what was asked for; writing
and making alone touch the disk.
"""
