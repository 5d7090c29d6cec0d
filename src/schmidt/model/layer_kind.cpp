#include "schmidt/model/layer_kind.h"

namespace schmidt::model {

StoredWeight pack_plainly(const std::string& /*name*/, const StoredWeight& weight,
                          const PackOptions& options) {
  return {weight.form, in_dtype(weight.tensors, options.dtype)};
}

}  // namespace schmidt::model
