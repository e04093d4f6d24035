//go:build !grocksdb_no_link

package rocks

// The system's library. Debian builds it with C++ assertions on and without
// hardware CRC32C.
const buildKind = "system library"
