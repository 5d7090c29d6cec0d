#include "schmidt/text/chat_formats.h"

namespace schmidt::text {
namespace {

constexpr std::string_view kChatMl = R"(
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %})";

// ChatML with a system message where the conversation has none.
constexpr std::string_view kQwen2 = R"(
{%- if messages[0].role != 'system' %}
    {{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %})";

// Reasoning stands in an answer to the last question and is left out of earlier ones.
constexpr std::string_view kQwen3 = R"(
{%- set ns = namespace(question=messages|length - 1, found=false) %}
{%- for message in messages[::-1] %}
    {%- set is_response = message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>') %}
    {%- if message.role == 'user' and not ns.found and not is_response %}
        {%- set ns.found = true %}
        {%- set ns.question = messages|length - loop.index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- set reasoning = '' %}
    {%- if message.role == 'assistant' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.question and (loop.last or reasoning) %}
            {%- set content = '<think>\n' + reasoning.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') %}
        {%- endif %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %})";

// The two below let user and assistant follow each other in turn, after a system message.
constexpr std::string_view kLlama2 = R"(
{%- set system = '' %}
{%- set turns = messages %}
{%- if messages[0].role == 'system' %}
    {%- set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}
    {%- set turns = messages[1:] %}
{%- endif %}
{%- if not turns %}
    {{- raise_exception('expected a message of the user, got a system message only') }}
{%- endif %}
{%- for message in turns %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) or message.role == 'system' %}
        {{- raise_exception('expected user and assistant in turn after an optional system message') }}
    {%- endif %}
    {%- if message.role == 'user' %}
        {%- set content = system + message.content if loop.first else message.content %}
        {{- bos_token ~ '[INST] ' ~ content.strip() ~ ' [/INST]' }}
    {%- else %}
        {{- ' ' ~ message.content.strip() ~ ' ' ~ eos_token }}
    {%- endif %}
{%- endfor %})";

constexpr std::string_view kLlama3 = R"(
{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content.strip() + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %})";

// Mistral 7B Instruct v0.2, which knows no system message.
constexpr std::string_view kMistral2 = R"(
{{- bos_token }}
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) or message.role == 'system' %}
        {{- raise_exception('expected user and assistant in turn, and no system message') }}
    {%- endif %}
    {{- '[INST] ' + message.content + ' [/INST]' if message.role == 'user' else message.content ~ eos_token }}
{%- endfor %})";

// Version 0.3, where the last question carries the system message.
constexpr std::string_view kMistral3 = R"(
{%- set turns = messages %}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content + '\n\n' %}
    {%- set turns = messages[1:] %}
{%- endif %}
{%- if not turns %}
    {{- raise_exception('expected a message of the user, got a system message only') }}
{%- endif %}
{{- bos_token }}
{%- for message in turns %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) or message.role == 'system' %}
        {{- raise_exception('expected user and assistant in turn after an optional system message') }}
    {%- endif %}
    {%- if message.role == 'user' %}
        {{- '[INST] ' + (system if system is defined and loop.last else '') + message.content + '[/INST]' }}
    {%- else %}
        {{- ' ' ~ message.content.strip() ~ eos_token }}
    {%- endif %}
{%- endfor %})";

// The first line that fits counts.
struct ModelTemplate {
  std::string_view model_type;
  std::string_view token;  // that the vocabulary must have; empty: none
  std::string_view source;
};

constexpr ModelTemplate kModelTemplates[] = {{"qwen3", "", kQwen3},
                                             {"qwen2", "", kQwen2},
                                             {"llama", "<|start_header_id|>", kLlama3},
                                             {"llama", "<|im_start|>", kChatMl},
                                             {"llama", "", kLlama2},
                                             {"mistral", "[INST]", kMistral3},
                                             {"mistral", "", kMistral2}};

}  // namespace

std::string_view chat_template_of_model(std::string_view model_type,
                                        const std::function<bool(std::string_view)>& has_token) {
  for (const ModelTemplate& m : kModelTemplates) {
    if (m.model_type == model_type && (m.token.empty() || has_token(m.token))) return m.source;
  }
  return {};
}

}  // namespace schmidt::text
