#pragma once

namespace schmidt {

/// Has the C library keep freed memory for later: work that asks for the same large
/// blocks again and again, as training does, otherwise gets them from the system page by
/// page each time. For the whole process; does nothing where the C library is not GNU's.
void keep_freed_memory();

}  // namespace schmidt
