package datapath

// The compiler is named with its version and sees paths relative to this folder only, so that the same
// bytes come out everywhere.
//
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cc clang-16 -strip llvm-strip-16 -no-global-types weft ../../bpf/weft.c -- -I../../bpf/include -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu -O2 -mcpu=v3 -Wall -Wextra -Werror
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cc clang-16 -strip llvm-strip-16 -no-global-types -output-suffix _test track ../../bpf/tests/conntrack.c -- -I../../bpf/include -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu -O2 -mcpu=v3 -Wall -Wextra -Werror
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cc clang-16 -strip llvm-strip-16 -no-global-types -output-suffix _test tracknext ../../bpf/tests/conntrack_next.c -- -I../../bpf/include -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu -O2 -mcpu=v3 -fms-extensions -Wno-microsoft-anon-tag -Wall -Wextra -Werror
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cc clang-16 -strip llvm-strip-16 -no-global-types -output-suffix _test natprog ../../bpf/tests/nat.c -- -I../../bpf/include -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu -O2 -mcpu=v3 -Wall -Wextra -Werror
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cc clang-16 -strip llvm-strip-16 -no-global-types -output-dir next -go-package next next ../../bpf/tests/next.c -- -I../../bpf/include -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu -O2 -mcpu=v3 -fms-extensions -Wno-microsoft-anon-tag -Wall -Wextra -Werror
//go:generate go run ./genreason ../../bpf/include/reason.h reason_gen.go
//go:generate go run ./genmatrix ../../docs/datapath-matrix.md
