"""Container images of the fleet: ``make images`` builds, archives and pushes them.

Pure modules make the decisions: `images.parts` (the content of each image), `images.locks`
(wheels), `images.bases` (base images) and `images.commands` (command lines of the builder).
`images.make` runs the commands.  `images.install` runs inside a build.
"""
