module midstreamer.dev/cluster/probe

go 1.24
