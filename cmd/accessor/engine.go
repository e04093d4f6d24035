package main

import (
	"runtime/debug"

	"accessor/checkpoint/rocks"
)

// version is set by the Makefile from git.
var version = ""

// versionText is the program's version and the storage engine that it is linked with.
func versionText() string {
	engine := newEngine()
	defer engine.Close()
	return programVersion() + ", " + engine.Name()
}

func programVersion() string {
	if info, ok := debug.ReadBuildInfo(); version == "" && ok {
		return info.Main.Version
	}
	return version
}

func newEngine() *rocks.Engine { return rocks.New(rocks.Options{}) }
