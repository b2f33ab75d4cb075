//go:build cgo && !linux

package codec

// libzstdVersion is the version of the binding's module, which is that of the
// libzstd inside. Weak symbols, which would let the library itself be asked,
// are a matter of ELF.
func libzstdVersion() string { return moduleVersion("github.com/DataDog/zstd", datadogVersion) }
