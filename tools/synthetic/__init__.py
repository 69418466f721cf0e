"""Drawn pedestrians: identities, cameras, pictures, and the published layouts they are stored in.

Everything here is a pure function of its arguments and of the random generator it is given.
"""
