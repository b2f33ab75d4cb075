//go:build cgo && linux

package codec

// The binding links libzstd, its own copy or (with its build tag
// external_libzstd) the system's, but does not say which. The symbol is weak
// because the linker that checks this package alone does not see the binding.

// extern const char *ZSTD_versionString(void) __attribute__((weak));
// static const char *lighter_libzstd_version(void) { return ZSTD_versionString ? ZSTD_versionString() : ""; }
import "C"

// libzstdVersion asks the library that is linked: "1.5.7".
func libzstdVersion() string {
	if v := C.GoString(C.lighter_libzstd_version()); v != "" {
		return v
	}
	return moduleVersion("github.com/DataDog/zstd", datadogVersion)
}
