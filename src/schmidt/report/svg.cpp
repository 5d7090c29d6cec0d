#include "schmidt/report/svg.h"

#include <cmath>

#include <fmt/format.h>

#include "schmidt/base/escaped_bytes.h"
#include "schmidt/report/page.h"
#include "schmidt/report/text_layout.h"

namespace schmidt::report {
namespace {

std::string number(double value) {
  std::string text = fmt::format("{:.1f}", value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text == "-0" ? "0" : text;
}

/// Ends an element, with its tip inside where there is one.
std::string closed(std::string_view element, std::string_view tip) {
  if (tip.empty()) return "/>\n";
  return fmt::format("><title>{}</title></{}>\n", escaped(tip), element);
}

/// The attribute for viewers that know one colour only, the style for those that know of dark
/// pages, which goes before the attribute there.
std::string painted(std::string_view attribute, Colour colour) {
  std::string text = fmt::format(" {}=\"#{:06x}\"", attribute, colour.light);
  if (colour.light == colour.dark) return text;
  return text + fmt::format(" style=\"{}:light-dark(#{:06x},#{:06x})\"", attribute, colour.light,
                            colour.dark);
}

std::string attributes(const Stroke& stroke) {
  std::string text =
      painted("stroke", stroke.colour) + fmt::format(" stroke-width=\"{:g}\"", stroke.width);
  if (!stroke.dashes.empty()) text += fmt::format(" stroke-dasharray=\"{}\"", stroke.dashes);
  return text;
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : escaped_bytes(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        // What XML has no way to write.
        if (static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\n' && c != '\r') {
          out += fmt::format("\\x{:02X}", c);
        } else {
          out += c;
        }
    }
  }
  return out;
}

void Svg::line(Spot from, Spot to, const Stroke& stroke) {
  body_ += fmt::format("<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"{}/>\n", number(from.x),
                       number(from.y), number(to.x), number(to.y), attributes(stroke));
}

void Svg::polyline(const std::vector<Spot>& spots, const Stroke& stroke, std::string_view tip) {
  if (spots.size() < 2) return;
  std::string points;
  for (const Spot& spot : spots) {
    points += fmt::format("{}{},{}", points.empty() ? "" : " ", number(spot.x), number(spot.y));
  }
  body_ += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke-linejoin=\"round\"{}", points,
                       attributes(stroke)) +
           closed("polyline", tip);
}

void Svg::rectangle(const Box& box, Colour fill, std::string_view tip) {
  body_ +=
      fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"{}", number(box.left),
                  number(box.top), number(box.width), number(box.height), painted("fill", fill)) +
      closed("rect", tip);
}

void Svg::frame(const Box& box, const Stroke& stroke) {
  body_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\"{}/>\n",
                       number(box.left), number(box.top), number(box.width), number(box.height),
                       attributes(stroke));
}

void Svg::dot(Spot centre, double radius, Colour fill, std::string_view tip) {
  body_ += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\"{}", number(centre.x), number(centre.y),
                       number(radius), painted("fill", fill)) +
           closed("circle", tip);
}

void Svg::arrowhead(Spot top, Colour fill, std::string_view tip) {
  body_ += fmt::format("<path d=\"M{} {}l4 7h-8z\"{}", number(top.x), number(top.y),
                       painted("fill", fill)) +
           closed("path", tip);
}

void Svg::text(Spot at, std::string_view content, const TextStyle& style) {
  static constexpr std::string_view kAnchors[] = {"start", "middle", "end"};
  std::string more;
  if (style.bold) more += " font-weight=\"bold\"";
  if (style.turned != 0.0) {
    more += fmt::format(" transform=\"rotate({} {} {})\"", number(-style.turned), number(at.x),
                        number(at.y));
  }
  body_ += fmt::format(
      "<text x=\"{}\" y=\"{}\" font-size=\"{}\" text-anchor=\"{}\"{}{}>{}</text>\n", number(at.x),
      number(at.y), number(style.size), kAnchors[static_cast<int>(style.anchor)],
      painted("fill", style.colour), more, escaped(content));
}

double Svg::paragraph(Spot at, std::string_view content, double width, const TextStyle& style) {
  const double step = line_height(style.size);
  const double angle = style.turned * std::acos(-1.0) / 180.0;
  double reach = 0.0;
  for (const std::string& line : wrapped(content, width, style.size, style.bold)) {
    text({at.x + reach * std::sin(angle), at.y + reach * std::cos(angle)}, line, style);
    reach += step;
  }
  return reach;
}

std::string Svg::document() const {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} "
      "{1}\" style=\"color-scheme:light dark\" "
      "font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\">\n"
      "<!-- {4} -->\n"
      "<rect width=\"{0}\" height=\"{1}\"{2}/>\n{3}</svg>\n",
      number(width_), number(height_), painted("fill", kPaper), body_, kMadeBy);
}

}  // namespace schmidt::report
