"""Container images of the fleet: `make images` builds, keeps and pushes them.

Pure modules decide: `parts` (what is in which image), `locks` (which wheels), `bases` (what the
images stand on), `commands` (what a builder is told). `make` runs them; `install` runs inside of
a build.
"""
