//go:build grocksdb_no_link

package rocks

// The static library of `make release`, linked by CGO_LDFLAGS.
const buildKind = "release build"
