// Reading the JSON of a safetensors header, which comes from strangers: strict RFC 8259, in one
// pass over the text, building nothing, so a hostile header costs no more memory than its own size.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace vilg::io {

// Pulls values one after the other; every function throws kCheckpointFormat with the byte at which
// the text is not what it was asked for.
//
//   reader.begin_object();
//   while (reader.next_key(key)) { if (key == "shape") ... else reader.skip_value(); }
//   reader.end();
class JsonReader {
 public:
  // `text` must outlive the reader and be UTF-8 (is_utf8 below).
  explicit JsonReader(std::string_view text) : text_(text) {}

  void begin_object();
  // False at the end of the object. The key is unescaped; whoever cares looks for duplicates.
  bool next_key(std::string& key);
  void begin_array();
  bool next_element();  // false at the end of the array
  std::string string();
  uint64_t unsigned_integer();  // digits only: no sign, fraction or exponent
  void skip_value();
  // Nothing but whitespace follows.
  void end();

 private:
  static constexpr int kMaxDepth = 32;

  [[noreturn]] void fail(const char* expected) const;
  void skip_whitespace();
  bool take(char c);
  bool next(char closing);  // of a container: true before another item
  void skip_literal(std::string_view literal);
  void skip_number();
  void skip_digits();
  uint32_t hex4();
  int peek() const { return at_ < text_.size() ? static_cast<unsigned char>(text_[at_]) : -1; }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
  bool first_ = false;  // directly after an opening bracket
};

// No overlong forms, surrogates or values above U+10FFFF.
bool is_utf8(std::string_view text);

// `text` (UTF-8) in quotes, with what JSON forbids in strings escaped.
std::string json_quote(std::string_view text);

}  // namespace vilg::io
