//go:build ignore

// Reads the head of an accessor, a value raw, and two values in one binary batch, with
// nothing but POSIX and the standard library. docs/PROTOCOL.md is all that it goes by.
//
//   g++ -std=c++17 -o example example.cc && ./example /run/accessor/accessor.sock

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cctype>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// An answer: names of headers are in lower case.
struct Answer {
  int status = 0;
  std::map<std::string, std::string> headers;
  std::string body;
};

// A connection to the server, for one request after the other.
class Connection {
 public:
  explicit Connection(const std::string &path) : fd_(socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    if (fd_ < 0 || path.size() >= sizeof to.sun_path) throw Error("no socket: " + path);
    std::memcpy(to.sun_path, path.data(), path.size());
    timeval limit{10, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd_, reinterpret_cast<sockaddr *>(&to), sizeof to) != 0) {
      int why = errno;
      close(fd_);
      throw Error(path + ": " + std::strerror(why));
    }
  }
  ~Connection() { close(fd_); }
  Connection(const Connection &) = delete;
  Connection &operator=(const Connection &) = delete;

  Answer call(const std::string &method, const std::string &target, const std::string &body = "") {
    std::string text = method + " " + target + " HTTP/1.1\r\nHost: localhost\r\nAccept: application/octet-stream, application/json;q=0.5\r\n";
    if (!body.empty()) text += "Content-Type: application/octet-stream\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
    text += "\r\n" + body;
    for (size_t sent = 0; sent < text.size();) {
      ssize_t n = write(fd_, text.data() + sent, text.size() - sent);
      if (n <= 0) break;  // the server may have answered before it read all
      sent += static_cast<size_t>(n);
    }
    return read_answer();
  }

 private:
  static constexpr size_t kHead = 64 << 10, kBody = 256 << 20;

  void more() {
    char part[16384];
    ssize_t n = read(fd_, part, sizeof part);
    if (n <= 0) throw Error("the connection ended amid an answer");
    buf_.append(part, static_cast<size_t>(n));
  }
  std::string take(size_t n) {
    while (buf_.size() < n) more();
    std::string out = buf_.substr(0, n);
    buf_.erase(0, n);
    return out;
  }
  std::string line() {
    size_t end;
    while ((end = buf_.find("\r\n")) == std::string::npos) {
      if (buf_.size() > kHead) throw Error("a line without end");
      more();
    }
    std::string out = take(end);
    take(2);
    return out;
  }
  static size_t number(const std::string &text, int base) {
    size_t used = 0;
    unsigned long long n = 0;
    if (!text.empty() && std::isxdigit(static_cast<unsigned char>(text[0]))) try {
        n = std::stoull(text, &used, base);
      } catch (const std::exception &) {
        used = 0;
      }
    if (used == 0 || used != text.size() || n > kBody) throw Error("a length of \"" + text.substr(0, 40) + "\"");
    return n;
  }
  Answer read_answer() {
    Answer a;
    std::string first = line();
    if (first.size() < 12 || first.compare(0, 9, "HTTP/1.1 ") != 0) throw Error("no HTTP/1.1");
    a.status = static_cast<int>(number(first.substr(9, 3), 10));
    size_t size = first.size();
    for (std::string l; !(l = line()).empty();) {
      size_t colon = l.find(':'), value = l.find_first_not_of(" \t", colon + 1);
      if (colon == std::string::npos || (size += l.size()) > kHead) throw Error("a head that isn't one");
      std::string name = l.substr(0, colon);
      for (char &c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      a.headers[name] = value == std::string::npos ? "" : l.substr(value, l.find_last_not_of(" \t") + 1 - value);
    }
    if (a.status == 204 || a.status == 304) return a;
    if (a.headers.count("content-length")) {
      a.body = take(number(a.headers["content-length"], 10));
    } else if (a.headers["transfer-encoding"] == "chunked") {
      for (;;) {
        std::string l = line();
        size_t n = number(l.substr(0, l.find(';')), 16);
        if (n == 0) break;
        if (a.body.size() + n > kBody) throw Error("too long an answer");
        a.body += take(n);
        if (!line().empty()) throw Error("a chunk that isn't one");
      }
      while (!line().empty()) {
      }
    } else {
      throw Error("an answer whose end nothing says");
    }
    return a;
  }

  int fd_;
  std::string buf_;
};

// want gives the answer's body, if it is 200 and about the block; an empty block means any.
std::string want(Answer &a, const std::string &block) {
  if (a.status != 200) throw Error("status " + std::to_string(a.status) + ": " + a.body.substr(0, 1000));
  std::string about = a.headers["accessor-block"];
  if (about.size() != 64 || (!block.empty() && about != block)) throw Error("an answer about block \"" + about + "\"");
  return a.body;
}

// A frame: a length in bytes, u32, little-endian, and so many bytes.
std::string frame(const std::string &bytes) {
  std::string out;
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(bytes.size() >> shift & 0xff);
  return out + bytes;
}

// A batch's answer; nothing stands for an absent key.
std::vector<std::optional<std::string>> values(const std::string &body, size_t keys) {
  std::vector<std::optional<std::string>> out;
  size_t at = 0;
  while (out.size() < keys) {
    if (body.size() - at < 4) throw Error("a batch that is cut short");
    uint32_t n = 0;
    for (int i = 3; i >= 0; i--) n = n << 8 | static_cast<unsigned char>(body[at + static_cast<size_t>(i)]);
    at += 4;
    if (n == UINT32_MAX) {
      out.emplace_back();
      continue;
    }
    if (n > body.size() - at) throw Error("a value beyond the batch's end");
    out.emplace_back(body.substr(at, n));
    at += n;
  }
  if (at != body.size()) throw Error("more values than keys");
  return out;
}

std::string hex(const std::string &bytes) {
  std::string out;
  char two[3];
  for (unsigned char c : bytes) out.append(two, static_cast<size_t>(std::snprintf(two, sizeof two, "%02x", c)));
  return out;
}

int main(int argc, char **argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: example SOCKET\n");
    return 2;
  }
  std::signal(SIGPIPE, SIG_IGN);  // a write that fails says so itself
  try {
    Connection c(argv[1]);
    Answer head = c.call("GET", "/v1/blocks/head");
    want(head, "");
    const std::string block = head.headers["accessor-block"], at = "/v1/blocks/0x" + block + "/state";
    std::printf("head %s slot %s\n", block.c_str(), head.headers["accessor-slot"].c_str());

    const std::string slot = '\x0b' + std::string(30, '\0'), none(31, '\xfe');
    Answer one = c.call("GET", at + "/" + hex(slot));
    std::printf("slot %s\n", hex(want(one, block)).c_str());

    Answer many = c.call("POST", at, frame(slot) + frame(none));
    for (const auto &v : values(want(many, block), 2)) std::printf("value %s\n", v ? hex(*v).c_str() : "absent");
  } catch (const std::exception &e) {
    std::fprintf(stderr, "example: %s\n", e.what());
    return 1;
  }
}
