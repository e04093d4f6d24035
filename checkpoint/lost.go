package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// moveToLost moves files out of a folder to where people can look at them.
func (s *Store) moveToLost(dir string, match func(name string) bool) error {
	names, err := os.ReadDir(s.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, d := range names {
		if !match(d.Name()) {
			continue
		}
		if err := s.files.mkdir(s.path(dirLost)); err != nil {
			return err
		}
		from := s.path(dir, d.Name())
		if d.IsDir() {
			if err := s.files.chmod(from, 0o755); err != nil {
				return err
			}
		}
		if err := s.files.rename(from, s.lostPath(dir+"-"+d.Name())); err != nil {
			return err
		}
	}
	return nil
}

// lostPath gives a free name in lost/.
func (s *Store) lostPath(name string) string {
	to := s.path(dirLost, name)
	for n := 2; ; n++ {
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			return to
		}
		to = s.path(dirLost, fmt.Sprintf("%s-%d", name, n))
	}
}
