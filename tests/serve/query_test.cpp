#include "schmidt/serve/query.h"

#include <gtest/gtest.h>

namespace schmidt::serve {
namespace {

TEST(Query, FieldsAreFoundByTheirNamesAndDecoded) {
  EXPECT_EQ(query_field("model=small", "model"), "small");
  EXPECT_EQ(query_field("a=1&model=small&model=other", "model"), "small");
  EXPECT_EQ(query_field("model=a%2Fmy+model%25", "model"), "a/my model%");
  EXPECT_EQ(query_field("model=caf%c3%A9", "model"), "caf\xC3\xA9");
  EXPECT_EQ(query_field("models=x&xmodel=y&model", "model"), "");
  EXPECT_EQ(query_field("model=a=b", "model"), "a=b");
}

TEST(Query, WhatIsNotWellFormedStandsForItself) {
  EXPECT_EQ(query_field("model=%", "model"), "%");
  EXPECT_EQ(query_field("model=%4", "model"), "%4");
  EXPECT_EQ(query_field("model=%zz%-1", "model"), "%zz%-1");
  EXPECT_EQ(query_field("&&=&", "model"), "");
  EXPECT_EQ(query_field("", "model"), "");
}

}  // namespace
}  // namespace schmidt::serve
