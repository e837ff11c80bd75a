"""The version of each format that the package writes to disk.

A number is raised when files of the format change so that an earlier version could not read them.
Caches of another version are built anew; exports, specs and checkpoints of earlier versions load.
"""

PART = ".part-"
"""How the names of files begin that are not whole yet; those of killed writes are swept."""

CHECKPOINT = 1
EXPORT = 1
TABLE_SPEC = 3
TABLE_SPEC_OF_ONE_TARGET = 2
TABLE_CACHE = 4
ENCODED_SPLITS = 6
PIXEL_CACHE = 2
IMAGE_MANIFEST = 6
FEATURE_CACHE = 3
