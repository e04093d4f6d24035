package trace

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// suffixes of a recording's file name. What a file is its first bytes say; the
// name only decides which files of a folder are looked at.
var suffixes = []string{".jsonl", ".jsonl.zst", ".jsonl.gz"}

// Find gives the inputs that an argument names: a file, a folder of step files
// and "-" name themselves; any other folder names each recording in it, which are
// files that end in .jsonl, .jsonl.zst or .jsonl.gz and folders of step files,
// sorted by path. Errors are *Error: ErrUnreadable, also of a folder with nothing
// in it.
func Find(arg string) ([]string, error) {
	if arg == "-" {
		return []string{arg}, nil
	}
	info, err := os.Stat(arg)
	if err != nil {
		return nil, unreadable(arg, err)
	}
	if !info.IsDir() {
		return []string{arg}, nil
	}
	entries, err := os.ReadDir(arg)
	if err != nil {
		return nil, unreadable(arg, err)
	}
	if slices.ContainsFunc(entries, isBin) {
		return []string{arg}, nil
	}
	var found []string
	for _, e := range entries {
		path := filepath.Join(arg, e.Name())
		info, err := os.Stat(path) // follows links, which e doesn't
		if err != nil {
			return nil, unreadable(path, err)
		}
		if info.IsDir() {
			below, err := os.ReadDir(path)
			if err != nil {
				return nil, unreadable(path, err)
			}
			if slices.ContainsFunc(below, isBin) {
				found = append(found, path)
			}
			continue
		}
		if baseName(path) != e.Name() {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		return nil, unreadable(arg, fmt.Errorf("no recordings in the folder (%s, or NNNNNNNN.bin)", strings.Join(suffixes, ", ")))
	}
	slices.Sort(found)
	return found, nil
}

func isBin(e os.DirEntry) bool { return !e.IsDir() && strings.HasSuffix(e.Name(), binSuffix) }

// baseName is a file's name without its folder and without a recording's suffix.
func baseName(path string) string {
	name := filepath.Base(path)
	for _, s := range suffixes {
		if base, ok := strings.CutSuffix(name, s); ok && base != "" {
			return base
		}
	}
	return name
}
