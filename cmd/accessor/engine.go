package main

import (
	"runtime/debug"

	"accessor/checkpoint/rocks"
)

// version is set by the Makefile from git.
var version = ""

// versionText is the program's version and the storage engine that it is linked with.
func versionText() string {
	v := version
	if info, ok := debug.ReadBuildInfo(); v == "" && ok {
		v = info.Main.Version
	}
	engine := newEngine()
	defer engine.Close()
	return v + ", " + engine.Name()
}

func newEngine() *rocks.Engine { return rocks.New(rocks.Options{}) }
