//go:build cgo

package state_test

import (
	"accessor/checkpoint"
	"accessor/checkpoint/rocks"
)

func init() {
	engines = append(engines, engineCase{
		name: "rocks",
		open: func() (checkpoint.Engine, func()) {
			e := rocks.New(rocks.Options{})
			return e, e.Close
		},
		occupy: func(dir string) error {
			// Left open on purpose, until the process ends.
			_, err := rocks.New(rocks.Options{}).OpenWorking(dir)
			return err
		},
	})
}
