#pragma once

#include <string>

#include <gtest/gtest.h>

namespace schmidt::test {

/// Runs `call`; the test fails unless it throws Error with `part` in its message.
template <class Error, class Call>
void expect_error(Call&& call, const std::string& part) {
  try {
    call();
    ADD_FAILURE() << "expected an error with: " << part;
  } catch (const Error& e) {
    const std::string what = e.what();
    EXPECT_NE(what.find(part), std::string::npos) << what;
  }
}

}  // namespace schmidt::test
