#include "schmidt/report/page.h"

#include <fmt/format.h>

#include "schmidt/report/svg.h"

namespace schmidt::report {
namespace {

constexpr std::string_view kStyle =
    ":root{color-scheme:light dark}"
    "body{font:15px/1.5 Helvetica,Arial,sans-serif;color:#222;background:#fff;"
    "max-width:1280px;margin:1.5em auto;padding:0 12px;overflow-wrap:anywhere}"
    "h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}"
    ".figures{display:grid;gap:12px;"
    "grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr))}"
    "figure{margin:0}svg{display:block;width:100%;max-width:560px;height:auto}"
    ".table{overflow-x:auto}"
    "table{border-collapse:collapse;font-size:13px;overflow-wrap:normal}"
    "th,td{padding:2px 9px;text-align:right;border-bottom:1px solid #e4e4e4;vertical-align:top}"
    "th:first-child,td:first-child{text-align:left;overflow-wrap:anywhere;min-width:7em}"
    "td:nth-child(2):last-child{overflow-wrap:anywhere}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#16181c}"
    "th,td{border-color:#33373d}}";

}  // namespace

Page::Page(std::string_view title) : title_(escaped(title)) {}

void Page::heading(std::string_view text) { body_ += fmt::format("<h2>{}</h2>\n", escaped(text)); }

void Page::paragraph(std::string_view text) { body_ += fmt::format("<p>{}</p>\n", escaped(text)); }

void Page::figures(const std::vector<std::string>& svgs) {
  body_ += "<div class=\"figures\">\n";
  for (const std::string& svg : svgs) body_ += fmt::format("<figure>\n{}</figure>\n", svg);
  body_ += "</div>\n";
}

void Page::table(const std::vector<std::string>& header,
                 const std::vector<std::vector<std::string>>& rows) {
  const auto row = [](std::string_view cell, const std::vector<std::string>& cells) {
    std::string text = "<tr>";
    for (const std::string& content : cells) {
      text += fmt::format("<{0}>{1}</{0}>", cell, escaped(content));
    }
    return text + "</tr>\n";
  };
  body_ += "<div class=\"table\"><table>\n" + row("th", header);
  for (const auto& cells : rows) body_ += row("td", cells);
  body_ += "</table></div>\n";
}

std::string Page::document() const {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
      "<meta name=\"generator\" content=\"{3}\">\n<title>{0}</title>\n"
      "<style>{1}</style>\n</head>\n<body>\n<h1>{0}</h1>\n{2}</body>\n</html>\n",
      title_, kStyle, body_, kMadeBy);
}

}  // namespace schmidt::report
