// LibTorch and SentencePiece come without AddressSanitizer: a vector filled there
// and read here has no annotations, which the container check takes for overflow.
extern "C" const char* __asan_default_options() { return "detect_container_overflow=0"; }
