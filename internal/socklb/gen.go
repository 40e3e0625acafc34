package socklb

// The compiler is named with its version and sees paths relative to this folder only, so that the same
// bytes come out everywhere.
//
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cc clang-16 -strip llvm-strip-16 -no-global-types socket ../../bpf/socket.c -- -I../../bpf/include -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu -O2 -mcpu=v3 -Wall -Wextra -Werror
