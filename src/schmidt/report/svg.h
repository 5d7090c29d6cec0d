#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "schmidt/report/colour.h"

namespace schmidt::report {

/// In pixels; y points down.
struct Spot {
  double x = 0.0, y = 0.0;
};

struct Box {
  double left = 0.0, top = 0.0, width = 0.0, height = 0.0;
  double right() const { return left + width; }
  double bottom() const { return top + height; }
};

enum class Anchor { kStart, kMiddle, kEnd };

struct TextStyle {
  double size = 11.0;
  Anchor anchor = Anchor::kStart;
  Colour colour = kInk;
  bool bold = false;
  double turned = 0.0;  ///< degrees, counter-clockwise
};

struct Stroke {
  Colour colour = kInk;
  double width = 1.0;
  std::string dashes;  ///< "4 3"; empty: a whole line
};

/// A drawing that grows shape by shape and stands by itself, on light pages and on dark ones:
/// no scripts, no outside fonts. `tip`, where there is one, shows when a mouse rests on the shape.
/// Numbers are written to a tenth of a pixel, so that the same figure is the same bytes.
class Svg {
 public:
  Svg(double width, double height) : width_(width), height_(height) {}

  void line(Spot from, Spot to, const Stroke& stroke);
  void polyline(const std::vector<Spot>& spots, const Stroke& stroke, std::string_view tip = "");
  void rectangle(const Box& box, Colour fill, std::string_view tip = "");
  void frame(const Box& box, const Stroke& stroke);
  void dot(Spot centre, double radius, Colour fill, std::string_view tip = "");
  /// Points up to `top`: a value that lies beyond the axis there.
  void arrowhead(Spot top, Colour fill, std::string_view tip = "");
  void text(Spot at, std::string_view content, const TextStyle& style = {});
  /// Text in lines no wider than `width`, the first at `at`, the others below it (beside it where
  /// the text is turned). Returns how far they reach from `at`, a line's height for each.
  double paragraph(Spot at, std::string_view content, double width, const TextStyle& style = {});

  /// The whole document.
  std::string document() const;

 private:
  double width_, height_;
  std::string body_;
};

/// For text and attributes of XML and HTML.
std::string escaped(std::string_view text);

}  // namespace schmidt::report
