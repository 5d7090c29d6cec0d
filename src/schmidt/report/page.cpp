#include "schmidt/report/page.h"

#include <fmt/format.h>

#include "schmidt/report/svg.h"

namespace schmidt::report {
namespace {

constexpr std::string_view kStyle =
    "body{font:15px/1.5 Helvetica,Arial,sans-serif;color:#222;max-width:1180px;margin:2em auto;"
    "padding:0 1em}"
    "h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}"
    "svg{max-width:100%;height:auto}"
    "table{border-collapse:collapse;font-size:13px}"
    "th,td{padding:2px 9px;text-align:right;border-bottom:1px solid #e4e4e4}"
    "th:first-child,td:first-child{text-align:left}";

}  // namespace

Page::Page(std::string_view title) : title_(escaped(title)) {}

void Page::heading(std::string_view text) { body_ += fmt::format("<h2>{}</h2>\n", escaped(text)); }

void Page::paragraph(std::string_view text) { body_ += fmt::format("<p>{}</p>\n", escaped(text)); }

void Page::figure(std::string_view svg) { body_ += fmt::format("<figure>\n{}</figure>\n", svg); }

void Page::table(const std::vector<std::string>& header,
                 const std::vector<std::vector<std::string>>& rows) {
  const auto row = [](std::string_view cell, const std::vector<std::string>& cells) {
    std::string text = "<tr>";
    for (const std::string& content : cells) {
      text += fmt::format("<{0}>{1}</{0}>", cell, escaped(content));
    }
    return text + "</tr>\n";
  };
  body_ += "<table>\n" + row("th", header);
  for (const auto& cells : rows) body_ += row("td", cells);
  body_ += "</table>\n";
}

std::string Page::document() const {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width\">\n"
      "<meta name=\"generator\" content=\"{3}\">\n<title>{0}</title>\n"
      "<style>{1}</style>\n</head>\n<body>\n<h1>{0}</h1>\n{2}</body>\n</html>\n",
      title_, kStyle, body_, kMadeBy);
}

}  // namespace schmidt::report
