// The few RocksDB calls that its C API lacks, and batched forms of those that
// are called once per key, where a cgo call each would cost as much as the
// work itself.
#ifndef ACCESSOR_ROCKS_SHIM_H
#define ACCESSOR_ROCKS_SHIM_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// The version of RocksDB compiled against, as in "7.8.3".
const char* accessor_rocksdb_version(void);

// Lets the C library keep two heaps for all threads, not eight for each core: what
// RocksDB takes and gives back on many threads is otherwise kept many times.
void accessor_few_heaps(void);

// Gives memory that is free in those heaps back to the system.
void accessor_trim(void);

// Sets IngestExternalFileOptions.write_global_seqno to false: an ingested file
// is then never written to, so that it may be linked into many databases.
void accessor_ingest_keep_files(void* ingest_options);

// Gives the options a logger that drops everything. Without one, each open
// writes a LOG file of some 30 kB that describes all options. What goes wrong
// is returned by the calls.
void accessor_options_no_log(void* options);

// Gives the options a file system that leaves out all syncs, for databases that
// need not outlive a power cut.
void accessor_options_no_sync(void* options);

// A writer of one table file. Unlike that of the C API it leaves the file's
// pages in the system's cache: the file is read right after, for its checksum.
// Errors are texts to be freed by the caller, NULL for none. To put_all, buf
// holds n entries of u32 key length, u32 value length (native order), key, value.
void* accessor_writer_open(void* options, const char* path, char** err);
char* accessor_writer_put_all(void* writer, const char* buf, int n);
char* accessor_writer_finish(void* writer);
void accessor_writer_close(void* writer);

// Copies entries from an iterator into buf in the same form, from the current
// one on and before `to` (to_len 0: no upper end), and moves the iterator past
// them. Returns the number of bytes used; 0 with *need = 0 at the end, or with
// *need = the bytes that the next entry takes where it doesn't fit.
// *err is NULL or an error text to be freed by the caller.
size_t accessor_iter_fill(void* iter, const char* to, size_t to_len, char* buf,
                          size_t cap, size_t* need, char** err);

// The same in descending order, from the current entry on and not before `from`.
size_t accessor_iter_fill_back(void* iter, const char* from, size_t from_len, char* buf,
                               size_t cap, size_t* need, char** err);

// Reads the value of one key into buf. Returns 1 where it is there and fits, with
// its size in *size; 0 where there is no such key; 2 where it doesn't fit, with
// what holds it in *rest, to be given to accessor_get_rest with a buffer of *size
// bytes.
int accessor_get(void* db, void* read_options, const char* key, size_t key_len,
                 char* buf, size_t cap, size_t* size, void** rest, char** err);
void accessor_get_rest(void* rest, char* buf);

// Reads the values of n keys in ascending order: a u32 length (native order) and
// a key each. *size is set to what accessor_multi_take needs: there it copies, for
// each key, a u32 length and the value, or UINT32_MAX for a key that isn't there,
// and frees the result.
void* accessor_multi_get(void* db, void* read_options, const char* keys, size_t n,
                         size_t* size, char** err);
void accessor_multi_take(void* result, char* buf);

// A reader of one table file. Errors as above.
void* accessor_table_open(void* options, const char* path, char** err);
char* accessor_table_verify(void* table);
// An iterator at the first entry from a key on.
void* accessor_table_iter(void* table, const char* key, size_t key_len);
size_t accessor_table_iter_fill(void* iter, const char* to, size_t to_len, char* buf,
                                size_t cap, size_t* need, char** err);
void accessor_table_iter_close(void* iter);
void accessor_table_close(void* table);

#ifdef __cplusplus
}
#endif

#endif
