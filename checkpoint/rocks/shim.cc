#include "shim.h"

#include <malloc.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include <utility>
#include <vector>

#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "rocksdb/file_system.h"
#include "rocksdb/iterator.h"
#include "rocksdb/options.h"
#include "rocksdb/sst_file_reader.h"
#include "rocksdb/sst_file_writer.h"
#include "rocksdb/version.h"

#define ACCESSOR_STRING_(x) #x
#define ACCESSOR_STRING(x) ACCESSOR_STRING_(x)

using rocksdb::FileOptions;
using rocksdb::FSDirectory;
using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;
using rocksdb::Status;

namespace {

// In RocksDB's C API (db/c.cc) these handles are structs whose first member is
// the object or the pointer named here.
struct IngestOptionsHandle { rocksdb::IngestExternalFileOptions rep; };
struct IteratorHandle { rocksdb::Iterator* rep; };
struct OptionsHandle { rocksdb::Options rep; };
struct DBHandle { rocksdb::DB* rep; };
struct ReadOptionsHandle { rocksdb::ReadOptions rep; };

// The values of a multi_get.
struct Values {
  explicit Values(size_t n) : keys(n), values(n), statuses(n) {}
  std::vector<Slice> keys;
  std::vector<rocksdb::PinnableSlice> values;
  std::vector<Status> statuses;
};

char* error_text(const Status& s) {
  if (s.ok()) return nullptr;
  return strdup(s.ToString().c_str());
}

// Copies entries before `end`, or, going back, not before it.
size_t fill(rocksdb::Iterator* it, const Slice* end, bool back, char* buf,
            size_t cap, size_t* need, char** err) {
  size_t used = 0;
  *need = 0;
  *err = nullptr;
  for (; it->Valid(); back ? it->Prev() : it->Next()) {
    const Slice k = it->key(), v = it->value();
    if (end != nullptr && (k.compare(*end) < 0) == back) break;
    const size_t size = 8 + k.size() + v.size();
    if (size > cap - used) {
      if (used == 0) *need = size;
      return used;
    }
    const uint32_t head[2] = {static_cast<uint32_t>(k.size()),
                              static_cast<uint32_t>(v.size())};
    memcpy(buf + used, head, 8);
    memcpy(buf + used + 8, k.data(), k.size());
    memcpy(buf + used + 8 + k.size(), v.data(), v.size());
    used += size;
  }
  *err = error_text(it->status());
  return used;
}

class NoLog : public rocksdb::Logger {
 public:
  NoLog() : Logger(rocksdb::InfoLogLevel::HEADER_LEVEL) {}
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

class UnsyncedFile : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  using rocksdb::FSWritableFileOwnerWrapper::FSWritableFileOwnerWrapper;
  IOStatus Sync(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Fsync(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
};

class UnsyncedDirectory : public rocksdb::FSDirectoryWrapper {
 public:
  using rocksdb::FSDirectoryWrapper::FSDirectoryWrapper;
  IOStatus Fsync(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus FsyncWithDirOptions(const IOOptions&, IODebugContext*,
                               const rocksdb::DirFsyncOptions&) override {
    return IOStatus::OK();
  }
};

// Hands everything on to the default file system but the syncs.
class Unsynced : public rocksdb::FileSystemWrapper {
 public:
  Unsynced() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "AccessorUnsynced"; }

  IOStatus NewWritableFile(const std::string& name, const FileOptions& options,
                           std::unique_ptr<FSWritableFile>* file,
                           IODebugContext* debug) override {
    return wrap(target()->NewWritableFile(name, options, file, debug), file);
  }
  IOStatus ReopenWritableFile(const std::string& name, const FileOptions& options,
                              std::unique_ptr<FSWritableFile>* file,
                              IODebugContext* debug) override {
    return wrap(target()->ReopenWritableFile(name, options, file, debug), file);
  }
  IOStatus NewDirectory(const std::string& name, const IOOptions& options,
                        std::unique_ptr<FSDirectory>* dir,
                        IODebugContext* debug) override {
    IOStatus s = target()->NewDirectory(name, options, dir, debug);
    if (s.ok()) dir->reset(new UnsyncedDirectory(std::move(*dir)));
    return s;
  }

 private:
  static IOStatus wrap(IOStatus s, std::unique_ptr<FSWritableFile>* file) {
    if (s.ok()) file->reset(new UnsyncedFile(std::move(*file)));
    return s;
  }
};

}  // namespace

extern "C" {

void accessor_options_no_sync(void* options) {
  // For the life of the process, as RocksDB's own default Env.
  static rocksdb::Env* env =
      rocksdb::NewCompositeEnv(std::make_shared<Unsynced>()).release();
  static_cast<OptionsHandle*>(options)->rep.env = env;
}

const char* accessor_rocksdb_version(void) {
  return ACCESSOR_STRING(ROCKSDB_MAJOR) "." ACCESSOR_STRING(
      ROCKSDB_MINOR) "." ACCESSOR_STRING(ROCKSDB_PATCH);
}

void accessor_trim(void) { malloc_trim(0); }

void accessor_few_heaps(void) {
#ifdef M_ARENA_MAX  // of glibc
  mallopt(M_ARENA_MAX, 2);
#endif
}

void accessor_options_no_log(void* options) {
  static_cast<OptionsHandle*>(options)->rep.info_log = std::make_shared<NoLog>();
}

void accessor_ingest_keep_files(void* ingest_options) {
  static_cast<IngestOptionsHandle*>(ingest_options)->rep.write_global_seqno = false;
  // A copy would not be the synced file that it is a copy of.
  static_cast<IngestOptionsHandle*>(ingest_options)->rep.failed_move_fall_back_to_copy = false;
}

void* accessor_writer_open(void* options, const char* path, char** err) {
  const rocksdb::Options& rep = static_cast<OptionsHandle*>(options)->rep;
  auto writer = std::make_unique<rocksdb::SstFileWriter>(
      rocksdb::EnvOptions(rep), rep,  // with its bytes_per_sync
      /*column_family=*/nullptr, /*invalidate_page_cache=*/false);
  *err = error_text(writer->Open(path));
  return *err == nullptr ? writer.release() : nullptr;
}

char* accessor_writer_put_all(void* writer, const char* buf, int n) {
  rocksdb::SstFileWriter* w = static_cast<rocksdb::SstFileWriter*>(writer);
  for (int i = 0; i < n; i++) {
    uint32_t head[2];
    memcpy(head, buf, 8);
    buf += 8;
    const Slice k(buf, head[0]), v(buf + head[0], head[1]);
    buf += head[0] + head[1];
    const Status s = w->Put(k, v);
    if (!s.ok()) return error_text(s);
  }
  return nullptr;
}

char* accessor_writer_finish(void* writer) {
  return error_text(static_cast<rocksdb::SstFileWriter*>(writer)->Finish());
}

void accessor_writer_close(void* writer) {
  delete static_cast<rocksdb::SstFileWriter*>(writer);
}

size_t accessor_iter_fill(void* iter, const char* to, size_t to_len, char* buf,
                          size_t cap, size_t* need, char** err) {
  const Slice end(to, to_len);
  return fill(static_cast<IteratorHandle*>(iter)->rep, to_len ? &end : nullptr,
              /*back=*/false, buf, cap, need, err);
}

size_t accessor_iter_fill_back(void* iter, const char* from, size_t from_len, char* buf,
                               size_t cap, size_t* need, char** err) {
  const Slice end(from, from_len);
  return fill(static_cast<IteratorHandle*>(iter)->rep, from_len ? &end : nullptr,
              /*back=*/true, buf, cap, need, err);
}

int accessor_get(void* db, void* read_options, const char* key, size_t key_len,
                 char* buf, size_t cap, size_t* size, void** rest, char** err) {
  rocksdb::DB* rep = static_cast<DBHandle*>(db)->rep;
  rocksdb::PinnableSlice value;
  const Status s =
      rep->Get(static_cast<ReadOptionsHandle*>(read_options)->rep,
               rep->DefaultColumnFamily(), Slice(key, key_len), &value);
  *err = nullptr;
  if (s.IsNotFound()) return 0;
  if (!s.ok()) {
    *err = error_text(s);
    return 0;
  }
  *size = value.size();
  if (value.size() <= cap) {
    memcpy(buf, value.data(), value.size());
    return 1;
  }
  *rest = new rocksdb::PinnableSlice(std::move(value));
  return 2;
}

void accessor_get_rest(void* rest, char* buf) {
  std::unique_ptr<rocksdb::PinnableSlice> value(
      static_cast<rocksdb::PinnableSlice*>(rest));
  memcpy(buf, value->data(), value->size());
}

void* accessor_multi_get(void* db, void* read_options, const char* keys, size_t n,
                         size_t* size, char** err) {
  rocksdb::DB* rep = static_cast<DBHandle*>(db)->rep;
  auto result = std::make_unique<Values>(n);
  for (Slice& key : result->keys) {
    uint32_t len;
    memcpy(&len, keys, 4);
    key = Slice(keys + 4, len);
    keys += 4 + len;
  }
  rep->MultiGet(static_cast<ReadOptionsHandle*>(read_options)->rep,
                rep->DefaultColumnFamily(), n, result->keys.data(),
                result->values.data(), result->statuses.data(),
                /*sorted_input=*/true);
  *err = nullptr;
  *size = 4 * n;
  for (size_t i = 0; i < n; i++) {
    const Status& s = result->statuses[i];
    if (s.ok()) {
      *size += result->values[i].size();
    } else if (!s.IsNotFound()) {
      *err = error_text(s);
      return nullptr;
    }
  }
  return result.release();
}

void accessor_multi_take(void* result, char* buf) {
  std::unique_ptr<Values> r(static_cast<Values*>(result));
  for (size_t i = 0; i < r->keys.size(); i++) {
    const Slice& value = r->values[i];
    const uint32_t len =
        r->statuses[i].ok() ? static_cast<uint32_t>(value.size()) : UINT32_MAX;
    memcpy(buf, &len, 4);
    buf += 4;
    if (len == UINT32_MAX) continue;
    memcpy(buf, value.data(), len);
    buf += len;
  }
}

void* accessor_table_open(void* options, const char* path, char** err) {
  auto reader = std::make_unique<rocksdb::SstFileReader>(
      static_cast<OptionsHandle*>(options)->rep);
  *err = error_text(reader->Open(path));
  return *err == nullptr ? reader.release() : nullptr;
}

char* accessor_table_verify(void* table) {
  return error_text(static_cast<rocksdb::SstFileReader*>(table)->VerifyChecksum());
}

void* accessor_table_iter(void* table, const char* key, size_t key_len) {
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  rocksdb::Iterator* it =
      static_cast<rocksdb::SstFileReader*>(table)->NewIterator(options);
  it->Seek(rocksdb::Slice(key, key_len));
  return it;
}

size_t accessor_table_iter_fill(void* iter, const char* to, size_t to_len, char* buf,
                                size_t cap, size_t* need, char** err) {
  const Slice end(to, to_len);
  return fill(static_cast<rocksdb::Iterator*>(iter), to_len ? &end : nullptr,
              /*back=*/false, buf, cap, need, err);
}

void accessor_table_iter_close(void* iter) {
  delete static_cast<rocksdb::Iterator*>(iter);
}

void accessor_table_close(void* table) {
  delete static_cast<rocksdb::SstFileReader*>(table);
}

}  // extern "C"
