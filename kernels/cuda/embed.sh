#!/bin/sh
# Print C source for `const struct cuda_target NAME`: the driver DRIVER and the compiled kernels FILE...
# Usage: embed.sh NAME DRIVER [FILE...]
set -eu
name=$1 driver=$2
shift 2
echo "#include \"kernels/cuda/cuda_driver.h\""
echo "extern const struct cuda_driver $driver;"
i=0
for file in "$@"; do
    # A NUL behind each, for drivers that take text.
    printf '__asm__(".section .rodata\\n.balign 64\\n%s_%d: .incbin \\"%s\\"\\n.byte 0\\n.previous\\n");\n' \
        "$name" $i "$file"
    echo "extern const char ${name}_$i[];"
    i=$((i + 1))
done
if [ $i = 0 ]; then
    echo "const struct cuda_target $name = { .driver = &$driver };"
    exit 0
fi
echo "static const struct cuda_image images[] = {"
i=0
for file in "$@"; do
    echo "    { \"$(basename "$file")\", ${name}_$i, $(wc -c <"$file") },"
    i=$((i + 1))
done
echo "};"
echo "const struct cuda_target $name = { &$driver, images, $i };"
