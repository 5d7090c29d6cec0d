#include "schmidt/report/page.h"

#include <fmt/format.h>

#include "schmidt/report/svg.h"

namespace schmidt::report {
namespace {

constexpr std::string_view kStyle =
    ":root{color-scheme:light dark;--ink:#22262b;--title:#0f1216;--pale:#5c646e;--link:#1f5fa8;"
    "--rule:#e3e5e8;--ground:#f6f7f8}"
    "@media(prefers-color-scheme:dark){:root{--ink:#d9dce0;--title:#f4f5f6;--pale:#a0a8b1;"
    "--link:#7fb2ee;--rule:#33373d;--ground:#1e2126}body{background:#16181c}}"
    "*{box-sizing:border-box}"
    "body{font:16px/1.6 Helvetica,Arial,sans-serif;color:var(--ink);max-width:1280px;"
    "margin:0 auto;padding:2.5em max(16px,3vw) 5em;overflow-wrap:anywhere}"
    "@media not (prefers-color-scheme:dark){body{background:#fff}}"
    "h1,h2,h3{color:var(--title);line-height:1.25;font-weight:600}"
    "h1{font-size:1.9em;letter-spacing:-.01em;margin:0 0 .6em}"
    "h2{font-size:1.35em;margin:2.6em 0 .7em}h3{font-size:1em;margin:2em 0 .5em}"
    "p{max-width:46em;margin:.8em 0}.lead{font-size:1.2em;line-height:1.55;max-width:42em}"
    "a{color:var(--link);text-decoration-thickness:1px;text-underline-offset:.18em}"
    "td a,th a{color:inherit;text-decoration-color:var(--rule)}"
    ".figures,.plates,.quotes{display:grid;gap:12px;"
    "grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr))}"
    ".plates{gap:2.6em 2.4em;margin:1.6em 0;"
    "grid-template-columns:repeat(auto-fill,minmax(min(100%,460px),1fr))}.wide{grid-column:1/-1}"
    "figure{margin:0;min-width:0}svg{display:block;width:100%;max-width:560px;height:auto}"
    ".plates svg{max-width:620px}"
    "figcaption{font-size:.9em;line-height:1.5;max-width:40em;margin-top:.7em}"
    "figcaption b{color:var(--title)}"
    "details{margin-top:.5em;font-size:.85em}summary{color:var(--pale);cursor:pointer}"
    ".table{overflow-x:auto;margin:1em 0}"
    "table{border-collapse:collapse;font-size:14px;line-height:1.4;overflow-wrap:normal;"
    "font-variant-numeric:tabular-nums}"
    "details table{font-size:13px}"
    "th,td{padding:6px 11px;text-align:right;border-bottom:1px solid var(--rule);"
    "vertical-align:top}"
    "th{color:var(--pale);font-weight:600;vertical-align:bottom}"
    "th:first-child,td:first-child{text-align:left;padding-left:0;overflow-wrap:anywhere;"
    "min-width:7em}"
    "th.w,td.w{text-align:left;min-width:11em;overflow-wrap:anywhere}"
    "td{white-space:nowrap}"
    "td:first-child,td.w,td:nth-child(2):last-child{overflow-wrap:anywhere;white-space:normal}"
    "pre{font:13px/1.6 ui-monospace,'DejaVu Sans Mono',Menlo,monospace;background:var(--ground);"
    "padding:1em 1.2em;border-radius:6px;white-space:pre-wrap}"
    "code{font:inherit;display:block;padding-left:1.6em;text-indent:-1.6em}"
    ".quotes{gap:1em;grid-template-columns:repeat(auto-fill,minmax(min(100%,280px),1fr))}"
    "blockquote{margin:0;padding:.9em 1.1em;background:var(--ground);border-radius:6px;"
    "font-size:.9em;white-space:pre-wrap}"
    "blockquote b{display:block;color:var(--title);margin-bottom:.4em}";

std::string linked(const Cell& cell) {
  if (cell.link.empty()) return escaped(cell.text);
  return fmt::format("<a href=\"{}\">{}</a>", escaped(cell.link), escaped(cell.text));
}

std::string joined(const std::vector<Cell>& pieces) {
  std::string text;
  for (const Cell& piece : pieces) text += linked(piece);
  return text;
}

std::string row_of(std::string_view element, const std::vector<Cell>& cells) {
  std::string text = "<tr>";
  for (const Cell& cell : cells) {
    text += fmt::format("<{0}{1}>{2}</{0}>", element, cell.is_prose ? " class=\"w\"" : "",
                        linked(cell));
  }
  return text + "</tr>\n";
}

std::string table_of(const CellTable& table) {
  std::string text = "<div class=\"table\"><table>\n" + row_of("th", table.header);
  for (const std::vector<Cell>& cells : table.rows) text += row_of("td", cells);
  return text + "</table></div>\n";
}

std::string folded_table(std::string_view summary, const CellTable& table) {
  return fmt::format("<details><summary>{}</summary>\n{}</details>\n", escaped(summary),
                     table_of(table));
}

std::vector<Cell> cells_of(const std::vector<std::string>& texts) {
  std::vector<Cell> cells;
  for (const std::string& text : texts) cells.push_back({text});
  return cells;
}

}  // namespace

Page::Page(std::string_view title) : title_(escaped(title)) {}

void Page::lead(const std::vector<Cell>& pieces) {
  body_ += fmt::format("<p class=\"lead\">{}</p>\n", joined(pieces));
}

void Page::heading(std::string_view text) { body_ += fmt::format("<h2>{}</h2>\n", escaped(text)); }

void Page::subheading(std::string_view text) {
  body_ += fmt::format("<h3>{}</h3>\n", escaped(text));
}

void Page::paragraph(std::string_view text) { body_ += fmt::format("<p>{}</p>\n", escaped(text)); }

void Page::paragraph(const std::vector<Cell>& pieces) {
  body_ += fmt::format("<p>{}</p>\n", joined(pieces));
}

void Page::figures(const std::vector<std::string>& svgs) {
  body_ += "<div class=\"figures\">\n";
  for (const std::string& svg : svgs) body_ += fmt::format("<figure>\n{}</figure>\n", svg);
  body_ += "</div>\n";
}

void Page::figures(const std::vector<Figure>& figures) {
  body_ += "<div class=\"plates\">\n";
  for (const Figure& figure : figures) {
    body_ += fmt::format("<figure{}>\n{}<figcaption><b>Figure {}.</b> {}",
                         figure.is_wide ? " class=\"wide\"" : "", figure.svg, ++figures_,
                         escaped(figure.finding));
    body_ += "</figcaption>\n";
    if (!figure.values.rows.empty()) body_ += folded_table("The numbers", figure.values);
    body_ += "</figure>\n";
  }
  body_ += "</div>\n";
}

void Page::table(const std::vector<std::string>& header,
                 const std::vector<std::vector<std::string>>& rows) {
  CellTable cells{cells_of(header), {}};
  for (const std::vector<std::string>& row : rows) cells.rows.push_back(cells_of(row));
  table(cells);
}

void Page::table(const CellTable& table) { body_ += table_of(table); }

void Page::folded(std::string_view summary, const CellTable& table) {
  body_ += folded_table(summary, table);
}

void Page::commands(const std::vector<std::string>& lines) {
  body_ += "<pre>";
  for (const std::string& line : lines) body_ += fmt::format("<code>{}</code>", escaped(line));
  body_ += "</pre>\n";
}

void Page::quotations(std::string_view prompt, const std::vector<Quotation>& quotations) {
  subheading(prompt);
  body_ += "<div class=\"quotes\">\n";
  for (const Quotation& quotation : quotations) {
    body_ += fmt::format("<blockquote><b>{}</b>{}</blockquote>\n", linked(quotation.author),
                         escaped(quotation.text));
  }
  body_ += "</div>\n";
}

std::string Page::document() const {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\n"
      "<meta name=\"generator\" content=\"{3}\"/>\n<title>{0}</title>\n"
      "<style>{1}</style>\n</head>\n<body>\n<h1>{0}</h1>\n{2}</body>\n</html>\n",
      title_, kStyle, body_, kMadeBy);
}

}  // namespace schmidt::report
