#include "io/json.h"

#include "tests/harness.h"

using namespace vilg;
using io::JsonReader;

namespace {

void skip_all(std::string_view text) {
  JsonReader json(text);
  json.skip_value();
  json.end();
}

}  // namespace

VILG_TEST(json_accepts_what_rfc_8259_has) {
  for (const char* text :
       {"{}", "[]", " {\"a\" : [1, -2.5e+3, 0, 0.5, 1E9, true, false, null, \"x\"]}\n", "\"\"",
        "{\"a\":{\"b\":[{}]}}", "-0", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\""}) {
    skip_all(text);
  }
}

VILG_TEST(json_refuses_what_rfc_8259_has_not) {
  for (const char* text : {"",
                           "{",
                           "[",
                           "[1,]",
                           "{,}",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{\"a\":1,}",
                           "{a:1}",
                           "{'a':1}",
                           "[1 2]",
                           "01",
                           "+1",
                           ".5",
                           "1.",
                           "1e",
                           "--1",
                           "NaN",
                           "Infinity",
                           "tru",
                           "nul",
                           "\"\n\"",
                           "\"\\x\"",
                           "\"\\u12g4\"",
                           "\"\\ud800\"",
                           "\"\\ud800\\u0041\"",
                           "\"\\udc00\"",
                           "\"abc",
                           "{} {}",
                           "[]]",
                           "/* */ {}",
                           "{\"a\":1 \"b\":2}",
                           "\"\\",
                           "\"\\u12"}) {
    EXPECT_ERROR(kCheckpointFormat, skip_all(text));
  }
}

VILG_TEST(json_depth_is_bounded) {
  std::string deep(32, '['), deeper(33, '[');
  skip_all(deep + std::string(32, ']'));
  EXPECT_ERROR(kCheckpointFormat, skip_all(deeper + std::string(33, ']')));
  EXPECT_ERROR(kCheckpointFormat, skip_all(std::string(1000000, '[')));
}

VILG_TEST(json_strings_and_integers) {
  EXPECT(JsonReader("\"\\u00e9\\u4e2d\\ud83d\\ude00\\u0000x\"").string() ==
             std::string("\u00e9\u4e2d\U0001F600\0x", 11),
         "unescaping");
  EXPECT(JsonReader("18446744073709551615").unsigned_integer() == UINT64_MAX, "the largest");
  EXPECT(JsonReader("0").unsigned_integer() == 0, "zero");
  for (const char* text : {"18446744073709551616", "-1", "1.0", "1e3", "007", "x", "", "\"1\""}) {
    EXPECT_ERROR(kCheckpointFormat, JsonReader(text).unsigned_integer());
  }
  const std::string nasty("a\"b\\c\n\x01\xE4\xB8\xAD\0", 10);
  const std::string quoted = io::json_quote(nasty);
  EXPECT(JsonReader(quoted).string() == nasty, "quoting and reading back");
}

VILG_TEST(json_utf8) {
  for (const char* good :
       {"", "a", "\xC2\x80", "\xE4\xB8\xAD", "\xF0\x9F\x98\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT(io::is_utf8(good), "%s", good);
  }
  for (const char* bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xE4\xB8", "\xFF", "a\xC2"}) {
    EXPECT(!io::is_utf8(bad), "%s", bad);
  }
}
