#pragma once

/// The library in one header: what a program of its own mostly needs. examples/ shows it in use.
///
///   io::Checkpoint::open            a model on disk: a folder, a GGUF file, an id in the hub's
///   cache package::summarize              its layers, sizes and parameters model::Model,
///   model::generate   running it; text::Tokenizer pipeline::compress_model, quantize, heal_model,
///   profile_model, plan_model, export_model
///                                   what the program's verbs do, as functions of values
///   compress::add_method, profile::add_metric, model::add_layer_kind
///                                   methods, metrics and forms of one's own
///   tn::Mpo, tn::factorize          the mathematics
///
/// Mistakes are c10::ValueError, bad files schmidt::FormatError, refusals of the system
/// schmidt::SystemError. Nothing prints, exits or aborts.
#include "schmidt/base/format_error.h"
#include "schmidt/base/progress.h"
#include "schmidt/compress/methods.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/model/generate.h"
#include "schmidt/model/layer_kinds.h"
#include "schmidt/model/model.h"
#include "schmidt/model/mpo_projection.h"
#include "schmidt/package/summary.h"
#include "schmidt/pipeline/compress_model.h"
#include "schmidt/pipeline/export_model.h"
#include "schmidt/pipeline/heal_model.h"
#include "schmidt/pipeline/plan_model.h"
#include "schmidt/pipeline/profile_model.h"
#include "schmidt/pipeline/quantize_recipe.h"
#include "schmidt/profile/metric.h"
#include "schmidt/text/continuation.h"
#include "schmidt/text/tokenizer.h"
#include "schmidt/tn/factorize.h"
#include "schmidt/tn/mpo.h"
#include "schmidt/version.h"
