package listen

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// MinSecret is the least bytes of a secret, as in Ethereum's Engine API.
const MinSecret = 32

// maxSecretFile is more than any secret's file has.
const maxSecretFile = 1024

// ReadSecret reads a secret from a file: hex digits of 32 bytes or more, with or
// without 0x in front, which nobody but the file's owner may read. Its text never
// comes in an error. Error: ErrSecret.
func ReadSecret(path string) ([]byte, error) {
	secret, err := readSecret(path)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrSecret, path, err)
	}
	return secret, nil
}

func readSecret(path string) ([]byte, error) {
	// A pipe of that name must not stop the start.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, errors.Unwrap(err) // the path is named already
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("is no regular file")
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("others may read it (mode %#o): chmod 600", info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxSecretFile {
		return nil, fmt.Errorf("is larger than %d bytes: want hex digits alone", maxSecretFile)
	}
	secret, err := hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(string(text)), "0x"))
	if err != nil {
		return nil, errors.New("want hex digits alone, such as openssl rand -hex 32 makes")
	}
	if len(secret) < MinSecret {
		return nil, fmt.Errorf("has %d bytes, want %d or more: openssl rand -hex 32 makes them", len(secret), MinSecret)
	}
	return secret, nil
}
