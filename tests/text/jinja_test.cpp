// Pieces of templates; whole ones are compared with jinja2 in chat_test.
#include "schmidt/text/jinja.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

namespace schmidt::text::jinja {
namespace {

std::string render(std::string_view source) {
  const Dict variables = {{"bos_token", "<s>"},
                          {"messages", List{Dict{{"role", "user"}, {"content", " hé "}},
                                            Dict{{"role", "assistant"}, {"content", "b"}}}}};
  return Template(source).render(variables, {.date = "26 Jul 2024"});
}

std::string error(std::string_view source) {
  try {
    return "no error: " + render(source);
  } catch (const c10::ValueError& e) {
    return e.what_without_backtrace();
  }
}

TEST(Jinja, ExpressionsBindAsInPython) {
  EXPECT_EQ(error("{{ 1 + 2 ~ 'x' }}"), error("{{ 1 + (2 ~ 'x') }}"));
  EXPECT_EQ(render("{{ 1 + 2 * 3 - 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }}"), "4 -4 2");
  EXPECT_EQ(render("{{ 'a' + ' b ' | trim + 'c' }}"), "abc");
  EXPECT_EQ(render("{{ not 1 == 2 and 'x' in 'xyz' }}"), "True");
  EXPECT_EQ(render("{{ 'q' not in messages[0] and 'role' in messages[0] }}"), "True");
  EXPECT_EQ(render("{{ '' or 'other' }}{{ 'a' and 'b' }}"), "otherb");
  EXPECT_EQ(render("{{ 'yes' if absent is not defined else 'no' }}{{ 'x' if false }}"), "yes");
  EXPECT_EQ(render("{{ 'a' 'b' }}{{ \"\\x41\\u00e9\\q\" }}"), "abAé\\q");
  EXPECT_EQ(
      render("{{ messages[1:][0].role }}{{ messages[::-1][1]['role'] }}{{ messages[-1].role }}"),
      "assistantuserassistant");
  EXPECT_EQ(render("{{ 'héllo'[1:3] }}{{ 'héllo'[::-1] }}{{ 'ab'[5] }}{{ 'héllo' | length }}"),
            "éloll"
            "éh"
            "5");
  EXPECT_EQ(render("{{ {'a': [1, true, none, 'é\\n']} | tojson }}"),
            "{\"a\": [1, true, null, \"é\\n\"]}");
}

TEST(Jinja, MethodsAndFilters) {
  EXPECT_EQ(render("{{ 'a</think>b</think>c'.split('</think>')[-1] }}"), "c");
  EXPECT_EQ(render("{{ 'a,b,c'.split(',', maxsplit=1) | join('|') }}"), "a|b,c");
  EXPECT_EQ(render("{{ 'a,b,c'.split(',', 1) | join('|') }}{{ ' a  b '.split() | join('|') }}"),
            "a|b,ca|b");
  EXPECT_EQ(render("{{ '\\n\\nx\\n'.lstrip('\\n') }}|{{ 'xxay'.strip('xy') }}"), "x\n|a");
  EXPECT_EQ(render("{{ 'user'.title() }}{{ 'USER' | capitalize }}{{ 'aXa'.replace('a', '') }}"),
            "UserUserX");
  EXPECT_EQ(render("{{ messages[0].get('x', 'd') }}{{ absent | default('e') }}"), "de");
  EXPECT_EQ(render("{% for k, v in messages[1].items() %}{{ k }}={{ v }};{% endfor %}"),
            "role=assistant;content=b;");
  EXPECT_EQ(render("{{ messages | map(attribute='role') | join(',') }}"), "user,assistant");
  EXPECT_EQ(render("{{ messages | rejectattr('role', 'in', ['user']) | list | length }}"), "1");
  EXPECT_EQ(render("{{ strftime_now('%d %b %Y') }}"), "26 Jul 2024");
  EXPECT_EQ(render("{{ strftime_now('%-m/%-d') }}"), "7/26");
}

TEST(Jinja, ScopesAreThoseOfJinja) {
  EXPECT_EQ(
      render("{% set x = 1 %}{% for m in messages %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}"),
      "221");
  EXPECT_EQ(render("{% if true %}{% set x = 1 %}{% endif %}{{ x }}"), "1");
  EXPECT_EQ(render("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
                   "{% endfor %}{{ ns.n }}"),
            "2");
  EXPECT_EQ(render("{% set x %}a{{ bos_token }}{% endset %}{{ x }}"), "a<s>");
  EXPECT_EQ(render("{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}"
                   "{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"),
            "02");
}

TEST(Jinja, WhatIsNotReachedCostsNothing) {
  EXPECT_EQ(render("{% if tools %}{{ tools | pprint }}{{ x.y.z }}{% else %}a{% endif %}"), "a");
}

TEST(Jinja, RefusesWhatItDoesNotRender) {
  for (const auto& [source, part] : std::vector<std::pair<std::string, std::string>>{
           {"{{ 1.5 }}", "whole ones"},
           {"{{ 2 / 1 }}", "operator"},
           {"{{ messages }}", "got a list"},
           {"\n\n{{ messages | pprint }}", "line 3: the filter \"pprint\""},
           {"{{ bos_token.zfill(3) }}", "method \"zfill\""},
           {"{{ bos_token is escaped }}", "test \"escaped\""},
           {"{% include 'x' %}", "tag \"include\""},
           {"{{ pad_token }}", "variable \"pad_token\""},
           {"{{ absent.member }}", "undefined \"absent\""},
           {"{{ absent + 'x' }}", "undefined and a string"},
           {"{{ 'é' | upper }}", "A to Z"},
           {"{{ raise_exception('no\nway') }}", "refuses the conversation: no way"},
           {"{% for m in messages %}{{ loop.cycle }}{% endfor %}", "of a loop"},
           {"{% if true %}", "expected \"endif\""},
           {"{{ 'x", "expected the end"},
           {"{{ (1 }}", "expected"},
           {"{% endif %}", "endif"},
           {"{{ 1 < 2 < 3 }}", "chains"}}) {
    EXPECT_NE(error(source).find(part), std::string::npos) << source << ": " << error(source);
    EXPECT_EQ(error(source).find('\n'), std::string::npos) << source;
  }
}

TEST(Jinja, HostileTemplatesEnd) {
  std::string deep(100'000, '('), nots, sum = "{{ 1";
  for (int i = 0; i < 100'000; ++i) nots += "not ", sum += " + 1";
  EXPECT_NE(error("{{ " + deep), "");
  EXPECT_NE(error("{{ " + nots + "1 }}").find("expected"), std::string::npos);
  EXPECT_NE(error(sum + " }}").find("shorter tag"), std::string::npos);
  const std::string loop = "{% for i in range(100000) %}";
  const std::string end = "{% endfor %}";
  EXPECT_NE(error(loop + loop + "{{ i }}" + end + end).find("line 1"), std::string::npos);
  EXPECT_NE(error("{% set n = namespace(x='ab') %}" + loop + "{% set n.x = n.x + n.x %}" + end)
                .find("shorter"),
            std::string::npos);
  EXPECT_NE(error("{% set n = namespace(x=[]) %}" + loop + "{% set n.x = [n.x, n.x] %}" + end)
                .find("elements"),
            std::string::npos);
  EXPECT_NE(error("{% set n = namespace(x=1) %}{% set n.x = n %}").find("namespace"),
            std::string::npos);
  EXPECT_NE(error("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").find("endless"),
            std::string::npos);
  EXPECT_NE(error("{{ 999999999999999999 * 999999999999999999 }}").find("smaller"),
            std::string::npos);
}

}  // namespace
}  // namespace schmidt::text::jinja
