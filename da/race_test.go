//go:build race

package da

const raceEnabled = true
