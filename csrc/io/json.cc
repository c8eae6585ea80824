#include "io/json.h"

#include "core/error.h"

namespace vilg::io {
namespace {

void append_utf8(std::string& text, uint32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
  } else if (c < 0x800) {
    text += static_cast<char>(0xC0 | (c >> 6));
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    text += static_cast<char>(0xE0 | (c >> 12));
    text += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    text += static_cast<char>(0xF0 | (c >> 18));
    text += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    text += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  }
}

}  // namespace

void JsonReader::fail(const char* expected) const {
  if (at_ >= text_.size()) {
    VILG_FAIL(kCheckpointFormat, "Expected %s in the header's JSON, found its end", expected);
  }
  const auto c = static_cast<unsigned char>(text_[at_]);
  const std::string found = c > 0x20 && c < 0x7F
                                ? format("'%c'", c)
                                : format("the byte 0x%02x", static_cast<unsigned>(c));
  VILG_FAIL(kCheckpointFormat, "Expected %s in the header's JSON at byte %zu, found %s", expected,
            at_, found.c_str());
}

void JsonReader::skip_whitespace() {
  while (at_ < text_.size() &&
         (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) {
    ++at_;
  }
}

bool JsonReader::take(char c) {
  if (peek() != static_cast<unsigned char>(c)) return false;
  ++at_;
  return true;
}

void JsonReader::begin_object() {
  skip_whitespace();
  if (depth_ == kMaxDepth) fail("less deep nesting");
  if (!take('{')) fail("an object");
  ++depth_;
  first_ = true;
}

void JsonReader::begin_array() {
  skip_whitespace();
  if (depth_ == kMaxDepth) fail("less deep nesting");
  if (!take('[')) fail("an array");
  ++depth_;
  first_ = true;
}

bool JsonReader::next(char closing) {
  skip_whitespace();
  if (take(closing)) {
    --depth_;
    first_ = false;
    return false;
  }
  if (!first_ && !take(',')) fail(closing == '}' ? "',' or '}'" : "',' or ']'");
  first_ = false;
  skip_whitespace();
  return true;
}

bool JsonReader::next_element() { return next(']'); }

bool JsonReader::next_key(std::string& key) {
  if (!next('}')) return false;
  if (peek() != '"') fail("a key");
  key = string();
  skip_whitespace();
  if (!take(':')) fail("':'");
  return true;
}

uint32_t JsonReader::hex4() {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) {
    const int c = peek();
    int digit = -1;
    if (c >= '0' && c <= '9') digit = c - '0';
    if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
    if (c >= 'A' && c <= 'F') digit = c - 'A' + 10;
    if (digit < 0) fail("four hexadecimal digits");
    value = value * 16 + static_cast<uint32_t>(digit);
    ++at_;
  }
  return value;
}

std::string JsonReader::string() {
  skip_whitespace();
  if (!take('"')) fail("a string");
  std::string result;
  for (;;) {
    const int c = peek();
    if (c < 0x20) fail("the rest of a string");  // the end of the text, too
    if (take('"')) return result;
    if (!take('\\')) {
      result += static_cast<char>(c);
      ++at_;
      continue;
    }
    const int escape = peek();
    static constexpr std::string_view kNames = "\"\\/bfnrt", kValues = "\"\\/\b\f\n\r\t";
    const size_t simple =
        escape < 0 ? std::string_view::npos : kNames.find(static_cast<char>(escape));
    if (simple != std::string_view::npos) {
      result += kValues[simple];
      ++at_;
      continue;
    }
    if (!take('u')) fail("an escape");
    uint32_t code = hex4();
    if (code >= 0xDC00 && code < 0xE000) fail("a high surrogate before this low one");
    if (code >= 0xD800 && code < 0xDC00) {
      if (!take('\\') || !take('u')) fail("the low surrogate of a pair");
      const uint32_t low = hex4();
      if (low < 0xDC00 || low >= 0xE000) fail("a low surrogate before this");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    append_utf8(result, code);
  }
}

uint64_t JsonReader::unsigned_integer() {
  skip_whitespace();
  const size_t start = at_;
  uint64_t value = 0;
  while (peek() >= '0' && peek() <= '9') {
    const auto digit = static_cast<uint64_t>(peek() - '0');
    if (value > (UINT64_MAX - digit) / 10) fail("an integer below 2^64");
    value = value * 10 + digit;
    ++at_;
  }
  if (at_ == start) fail("a non-negative integer");
  if (text_[start] == '0' && at_ - start > 1) {
    at_ = start;
    fail("an integer without leading zeros");
  }
  if (peek() == '.' || peek() == 'e' || peek() == 'E') fail("an integer");
  return value;
}

void JsonReader::skip_literal(std::string_view literal) {
  if (text_.substr(at_, literal.size()) != literal) fail("a value");
  at_ += literal.size();
}

void JsonReader::skip_digits() {
  if (!(peek() >= '0' && peek() <= '9')) fail("a digit");
  while (peek() >= '0' && peek() <= '9') ++at_;
}

void JsonReader::skip_number() {
  take('-');
  if (!take('0')) skip_digits();
  if (take('.')) skip_digits();
  if (peek() == 'e' || peek() == 'E') {
    ++at_;
    if (peek() == '+' || peek() == '-') ++at_;
    skip_digits();
  }
}

void JsonReader::skip_value() {
  skip_whitespace();
  std::string key;
  switch (peek()) {
    case '{':
      begin_object();
      while (next_key(key)) skip_value();
      return;
    case '[':
      begin_array();
      while (next_element()) skip_value();
      return;
    case '"':
      string();
      return;
    case 't':
      return skip_literal("true");
    case 'f':
      return skip_literal("false");
    case 'n':
      return skip_literal("null");
    default:
      return skip_number();
  }
}

void JsonReader::end() {
  skip_whitespace();
  if (at_ != text_.size()) fail("nothing more");
}

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    int more;
    uint32_t code;
    if (c < 0x80) {
      ++i;
      continue;
    } else if (c >= 0xC2 && c < 0xE0) {
      more = 1;
      code = c & 0x1Fu;
    } else if (c >= 0xE0 && c < 0xF0) {
      more = 2;
      code = c & 0x0Fu;
    } else if (c >= 0xF0 && c < 0xF5) {
      more = 3;
      code = c & 0x07u;
    } else {
      return false;
    }
    if (text.size() - i <= static_cast<size_t>(more)) return false;
    for (int j = 1; j <= more; ++j) {
      const auto next = static_cast<unsigned char>(text[i + static_cast<size_t>(j)]);
      if ((next & 0xC0) != 0x80) return false;
      code = (code << 6) | (next & 0x3Fu);
    }
    if (more == 2 && (code < 0x800 || (code >= 0xD800 && code < 0xE000))) return false;
    if (more == 3 && (code < 0x10000 || code > 0x10FFFF)) return false;
    i += static_cast<size_t>(more) + 1;
  }
  return true;
}

std::string json_quote(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      result += format("\\u%04x", static_cast<unsigned>(c));
    } else {
      result += c;
    }
  }
  return result + "\"";
}

}  // namespace vilg::io
