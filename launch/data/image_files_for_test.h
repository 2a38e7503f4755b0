// Image files written by hand.
#ifndef LYCIA_LAUNCH_DATA_IMAGE_FILES_FOR_TEST_H_
#define LYCIA_LAUNCH_DATA_IMAGE_FILES_FOR_TEST_H_

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

namespace lycia::testing {

inline std::string WriteBytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

inline std::string BigEndian(std::uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 0xFF);
  return bytes;
}

// Pixel (image, row, column) of made-up images.
inline std::uint8_t IdxPixel(std::int64_t image, std::int64_t row, std::int64_t column) {
  return static_cast<std::uint8_t>(image * 31 + row * 5 + column);
}

// The content of an IDX image file with the images first .. first + count - 1.
inline std::string IdxImages(std::int64_t count, std::int64_t rows, std::int64_t columns, std::int64_t first = 0) {
  std::string bytes = BigEndian(0x803);
  for (const std::int64_t extent : {count, rows, columns}) bytes += BigEndian(static_cast<std::uint32_t>(extent));
  for (std::int64_t i = first; i < first + count; ++i) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) bytes += static_cast<char>(IdxPixel(i, r, c));
    }
  }
  return bytes;
}

inline std::string IdxLabels(const std::vector<int>& labels) {
  std::string bytes = BigEndian(0x801) + BigEndian(static_cast<std::uint32_t>(labels.size()));
  for (const int label : labels) bytes += static_cast<char>(label);
  return bytes;
}

// Value (image, row, column, channel) of made-up CIFAR images.
inline std::uint8_t CifarValue(std::int64_t image, std::int64_t row, std::int64_t column, std::int64_t channel) {
  return static_cast<std::uint8_t>(image * 17 + row * 3 + column * 7 + channel * 101);
}

// One record: its labels, then the planes of image `image`.
inline std::string CifarRecord(const std::vector<int>& labels, std::int64_t image) {
  std::string bytes;
  for (const int label : labels) bytes += static_cast<char>(label);
  for (std::int64_t channel = 0; channel < 3; ++channel) {
    for (std::int64_t row = 0; row < 32; ++row) {
      for (std::int64_t column = 0; column < 32; ++column) bytes += static_cast<char>(CifarValue(image, row, column, channel));
    }
  }
  return bytes;
}

}  // namespace lycia::testing

#endif  // LYCIA_LAUNCH_DATA_IMAGE_FILES_FOR_TEST_H_
