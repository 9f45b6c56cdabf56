"""Container images of the fleet: ``make images`` builds, archives and pushes them.

Pure modules make the decisions: `images.parts` (the content of each image), `images.lock_files`
(wheels), `images.base_images` (base images) and `images.container_commands` (command lines of the
builder). `images.build_images` runs the commands.  `images.install` runs inside a build.
"""
