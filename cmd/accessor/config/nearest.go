package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// unknown gives the names of a table that are not among the known ones, sorted.
func unknown(table map[string]any, known []string) (list []string) {
	for _, name := range slices.Sorted(maps.Keys(table)) {
		if !slices.Contains(known, name) {
			list = append(list, name)
		}
	}
	return list
}

// didYouMean names the known name that is nearest, where one is near, else all.
func didYouMean(name string, known []string) string {
	best, least := "", len(name)/2+1
	for _, k := range known {
		if d := distance(clip(name), k); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf(": did you mean %s?", best)
	}
	return ": there are " + strings.Join(known, ", ")
}

// distance is how many letters have to be put in, taken out or changed to make one
// text the other (Levenshtein's).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
