#include "launch/data/gzip_file.h"

#include <zlib.h>

#include <algorithm>
#include <limits>

#include "runtime/core/check.h"
#include "runtime/io/file.h"

namespace lycia {
namespace {

bool IsGzip(std::string_view bytes) { return bytes.size() >= 2 && bytes[0] == '\x1f' && bytes[1] == '\x8b'; }

class Inflater {
 public:
  Inflater() { LYCIA_CHECK_EQ(inflateInit2(&stream_, 15 + 16), Z_OK); }  // a window of 2^15 bytes, framed by gzip
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() { inflateEnd(&stream_); }
  z_stream* operator->() { return &stream_; }
  z_stream* get() { return &stream_; }

 private:
  z_stream stream_ = {};
};

StatusOr<std::string> Unpack(const std::string& path, std::string_view packed, std::int64_t max_bytes) {
  constexpr std::size_t kPartBytes = std::size_t{1} << 20;
  const auto damaged = [&](std::string_view how, std::size_t at) {
    return InvalidArgument("gzip file ", path, " ", how, " at byte ", at, " of ", packed.size(), "; fetch it again, or correct data.files");
  };
  Inflater inflater;
  std::string bytes;
  std::size_t read = 0;
  while (read < packed.size()) {  // one member each
    if (!IsGzip(packed.substr(read))) return damaged("goes on with something that is not gzip", read);
    LYCIA_CHECK_EQ(inflateReset(inflater.get()), Z_OK);
    int result = Z_OK;
    while (result != Z_STREAM_END) {
      const std::size_t before = bytes.size();
      if (before > static_cast<std::size_t>(max_bytes)) {
        return InvalidArgument("gzip file ", path, " unpacks to more than the ", max_bytes,
                               " bytes that are accepted; split it into several files");
      }
      bytes.resize(before + kPartBytes);
      inflater->next_out = reinterpret_cast<Bytef*>(bytes.data() + before);
      inflater->avail_out = static_cast<uInt>(kPartBytes);
      inflater->next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data() + read));
      inflater->avail_in = static_cast<uInt>(std::min<std::size_t>(packed.size() - read, std::numeric_limits<uInt>::max()));
      const std::size_t offered = inflater->avail_in;
      result = inflate(inflater.get(), Z_NO_FLUSH);
      read += offered - inflater->avail_in;
      bytes.resize(before + kPartBytes - inflater->avail_out);
      if (result == Z_BUF_ERROR || (result == Z_OK && read == packed.size() && inflater->avail_out > 0))
        return damaged("ends too early", read);
      if (result != Z_OK && result != Z_STREAM_END)
        return damaged(StrCat("is damaged (", inflater->msg ? inflater->msg : "no reason given", ")"), read);
    }
  }
  return bytes;
}

}  // namespace

StatusOr<std::string> ReadDataFile(const std::string& path, std::int64_t max_bytes) {
  StatusOr<std::string> bytes = ReadFile(path, max_bytes);
  if (!bytes.ok()) return InvalidArgument("data.files: ", bytes.status().message());
  if (!IsGzip(*bytes)) return bytes;
  StatusOr<std::string> unpacked = Unpack(path, *bytes, max_bytes);
  if (unpacked.ok() && static_cast<std::int64_t>(unpacked->size()) > max_bytes) {
    return InvalidArgument("gzip file ", path, " unpacks to more than the ", max_bytes,
                           " bytes that are accepted; split it into several files");
  }
  return unpacked;
}

}  // namespace lycia
