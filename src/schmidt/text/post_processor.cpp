#include "schmidt/text/post_processor.h"

#include <map>

namespace schmidt::text {
namespace {

SpecialFrame parse_template(const JsonView& json) {
  const JsonView special_tokens = json.at("special_tokens");
  SpecialFrame frame;
  bool text_seen = false;
  for (const JsonView& item : json.at("single").items()) {
    if (item.find("Sequence")) {
      if (text_seen) item.fail("expected the text once, got it twice");
      text_seen = true;
      continue;
    }
    const std::string& name = item.at("SpecialToken").at("id").string();
    for (const JsonView& id : special_tokens.at(name).at("ids").items()) {
      (text_seen ? frame.after : frame.before).push_back(id.integer());
    }
  }
  if (!text_seen) json.fail("expected a template with the text in it, got none");
  return frame;
}

// Later processors frame what earlier ones made.
SpecialFrame parse_sequence(const JsonView& json) {
  SpecialFrame frame;
  for (const JsonView& item : json.at("processors").items()) {
    const SpecialFrame outer = parse_post_processor(item);
    frame.before.insert(frame.before.begin(), outer.before.begin(), outer.before.end());
    frame.after.insert(frame.after.end(), outer.after.begin(), outer.after.end());
  }
  return frame;
}

// ["token", id] for the classifier in front and the separator behind.
SpecialFrame parse_bert(const JsonView& json) {
  const auto id = [&](const std::string& key) {
    const std::vector<JsonView> pair = json.at(key).items();
    if (pair.size() != 2) json.at(key).fail("expected a token and its id");
    return pair[1].integer();
  };
  return {{id("cls")}, {id("sep")}};
}

using Parser = SpecialFrame (*)(const JsonView&);

const std::map<std::string, Parser>& parsers() {
  static const std::map<std::string, Parser> kTable = {
      {"TemplateProcessing", parse_template},
      {"ByteLevel", [](const JsonView&) { return SpecialFrame{}; }},
      {"Sequence", parse_sequence},
      {"BertProcessing", parse_bert},
      {"RobertaProcessing", parse_bert}};
  return kTable;
}

}  // namespace

SpecialFrame parse_post_processor(const JsonView& json) {
  return json.at("type").look_up(parsers(), "post-processor")(json);
}

}  // namespace schmidt::text
