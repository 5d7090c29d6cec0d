#include "schmidt/cli/console.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "schmidt/base/escaped_bytes.h"

namespace schmidt::cli {
namespace {

constexpr auto kSilence = std::chrono::seconds(2);
constexpr auto kTerminalInterval = std::chrono::milliseconds(100);
constexpr auto kPlainInterval = std::chrono::seconds(15);

double seconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

std::string scaled(double value, const std::array<const char*, 5>& units) {
  size_t u = 0;
  while (std::abs(value) >= 999.5 && u + 1 < units.size()) {
    value /= 1000.0;
    ++u;
  }
  return u == 0 ? fmt::format("{:.0f}{}", value, units[0])
                : fmt::format("{:.1f}{}", value, units[u]);
}

// Columns on the screen: UTF-8 continuation bytes take none.
size_t width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

bool is_number(const std::string& cell) {
  return !cell.empty() && (std::isdigit(static_cast<unsigned char>(cell[0])) != 0 || cell == "-" ||
                           (cell.size() > 1 && (cell[0] == '-' || cell[0] == '+')));
}

/// Without an end of the cell or of the row in it.
std::string markdown_cell(const std::string& text) {
  std::string cell;
  for (const char c : one_line(text)) {
    if (c == '|' || c == '\\') cell += '\\';
    cell += c;
  }
  return cell;
}

}  // namespace

ProgressLine::ProgressLine(bool quiet) : quiet_(quiet), terminal_(::isatty(STDERR_FILENO) != 0) {}

ProgressLine::~ProgressLine() { clear(); }

Reporter ProgressLine::reporter() {
  const auto note = [this](const std::string& text) {
    if (quiet_) return;
    clear();
    fmt::print(stderr, "note: {}\n", one_line(text));
  };
  return {callback(), note};
}

void ProgressLine::clear() {
  if (drawn_ && terminal_) std::fputs("\r\x1b[K", stderr);
  drawn_ = false;
}

ProgressFn ProgressLine::callback() {
  if (quiet_) return {};
  return [this](const Progress& progress) { show(progress); };
}

void ProgressLine::show(const Progress& progress) {
  const auto now = Clock::now();
  // A count that falls belongs to the next piece of work of the same kind, which has its own rate.
  if (progress.stage != stage_ || progress.done < last_done_) {
    stage_ = progress.stage;
    started_ = now;
    shown_ = now;
    first_done_ = progress.done;
  }
  last_done_ = progress.done;
  if (now - started_ < kSilence) return;
  if (now - shown_ <
          (terminal_ ? Clock::duration(kTerminalInterval) : Clock::duration(kPlainInterval)) &&
      drawn_) {
    return;
  }
  const double rate = static_cast<double>(progress.done - first_done_) / seconds(now - started_);
  std::string line = fmt::format("{}: {}", progress.stage, progress.done);
  if (progress.total > 0) line += fmt::format("/{}", progress.total);
  line += fmt::format(" {}", progress.unit);
  if (rate > 0.0) {
    line += fmt::format(", {:.{}f} {}/s", rate, rate < 10.0 ? 1 : 0, progress.unit);
    if (progress.total > 0) {
      line += fmt::format(
          ", {} left", human_seconds(static_cast<double>(progress.total - progress.done) / rate));
    }
  }
  if (!progress.item.empty()) line += fmt::format("  {}", progress.item);
  if (terminal_) {
    winsize size{};
    if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 &&
        line.size() >= size.ws_col) {
      line.resize(size.ws_col - 1U);
    }
    std::fputs(("\r\x1b[K" + line).c_str(), stderr);
  } else {
    std::fputs((line + "\n").c_str(), stderr);
  }
  std::fflush(stderr);
  shown_ = now;
  drawn_ = true;
}

std::string Table::aligned() const {
  std::vector<size_t> widths(header.size(), 0);
  const auto measure = [&](const std::vector<std::string>& row) {
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], width(row[c]));
  };
  measure(header);
  for (const auto& row : rows) measure(row);

  std::string text;
  const auto print = [&](const std::vector<std::string>& row, const std::vector<bool>& right) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string pad(widths[c] - width(row[c]), ' ');
      if (c > 0) line += "  ";
      line += right[c] ? pad + row[c] : row[c] + pad;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  std::vector<bool> right(header.size(), false);
  for (size_t c = 0; c < header.size(); ++c) {
    right[c] = !rows.empty() && std::all_of(rows.begin(), rows.end(), [&](const auto& row) {
      return row[c].empty() || is_number(row[c]);
    });
  }
  print(header, right);
  for (const auto& row : rows) print(row, right);
  return text;
}

std::string Table::markdown() const {
  std::string text;
  const auto print = [&](const std::vector<std::string>& row) {
    text += "|";
    for (const std::string& cell : row) text += fmt::format(" {} |", markdown_cell(cell));
    text += "\n";
  };
  print(header);
  text += "|";
  for (size_t c = 0; c < header.size(); ++c) text += "---|";
  text += "\n";
  for (const auto& row : rows) print(row);
  return text;
}

std::string Table::csv() const {
  const auto quoted = [](std::string cell) {
    if (cell.find_first_of(",\"\n\r") == std::string::npos) return cell;
    for (size_t at = 0; (at = cell.find('"', at)) != std::string::npos; at += 2)
      cell.insert(at, "\"");
    return "\"" + cell + "\"";
  };
  std::string text;
  const auto print = [&](const std::vector<std::string>& row) {
    for (size_t c = 0; c < row.size(); ++c) text += (c > 0 ? "," : "") + quoted(row[c]);
    text += "\n";
  };
  print(header);
  for (const auto& row : rows) print(row);
  return text;
}

std::string human_count(double count) { return scaled(count, {"", " K", " M", " B", " T"}); }
std::string human_bytes(double bytes) { return scaled(bytes, {" B", " kB", " MB", " GB", " TB"}); }

std::string human_seconds(double s) {
  const auto total = static_cast<int64_t>(s + 0.5);
  return total >= 3600 ? fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60)
                       : fmt::format("{}:{:02}", total / 60, total % 60);
}

}  // namespace schmidt::cli
