#include "schmidt/text/score_merges.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <tuple>
#include <unordered_map>

#include <fmt/format.h>

#include "schmidt/text/utf8.h"

namespace schmidt::text {
namespace {

/// The merges of one result, the results in their order.
using Groups = std::vector<std::pair<std::string, std::set<std::pair<std::string, std::string>>>>;

Groups by_result(const Merges& merges) {
  Groups groups;
  for (const auto& merge : merges) {
    const std::string result = merge.first + merge.second;
    if (groups.empty() || groups.back().first != result) groups.push_back({result, {}});
    groups.back().second.insert(merge);
  }
  return groups;
}

}  // namespace

bool is_padding(const std::string& token, int64_t type, size_t id) {
  return type == kUnused && token == fmt::format("[PAD{}]", id);
}

Merges merges_from_scores(const std::vector<std::string>& tokens, const std::vector<int64_t>& types,
                          const std::vector<float>& scores) {
  struct Merge {
    float score;
    size_t result, left, right;
  };
  std::unordered_map<std::string_view, size_t> ids;
  const auto is_piece = [&](size_t i) {
    return types[i] != kUnknown && types[i] != kControl && types[i] != kByte &&
           !is_padding(tokens[i], types[i], i);
  };
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (is_piece(i)) ids.emplace(tokens[i], i);
  }
  std::vector<Merge> merges;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (!is_piece(i) || tokens[i].empty()) continue;
    const std::string_view token = tokens[i];
    for (size_t cut = code_point_at(token, 0).length; cut < token.size();
         cut += code_point_at(token, cut).length) {
      const auto left = ids.find(token.substr(0, cut)), right = ids.find(token.substr(cut));
      if (left == ids.end() || right == ids.end()) continue;
      merges.push_back({scores[i], i, left->second, right->second});
    }
  }
  std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tuple(-a.score, a.result, a.left, a.right) <
           std::tuple(-b.score, b.result, b.left, b.right);
  });
  Merges list;
  for (const Merge& m : merges) list.emplace_back(tokens[m.left], tokens[m.right]);
  return list;
}

std::optional<std::vector<float>> scores_from_merges(const std::vector<std::string>& tokens,
                                                     const std::vector<int64_t>& types,
                                                     const Merges& merges) {
  const Groups groups = by_result(merges);
  std::unordered_map<std::string_view, float> known;
  float score = 0;
  for (const auto& [result, pairs] : groups) known.emplace(result, score -= 1);
  std::vector<float> scores;
  scores.reserve(tokens.size());
  for (const std::string& token : tokens) {
    const auto found = known.find(token);
    scores.push_back(found != known.end() ? found->second : score -= 1);
  }
  if (by_result(merges_from_scores(tokens, types, scores)) != groups) return std::nullopt;
  return scores;
}

}  // namespace schmidt::text
