# For test/unit/run and test/fuzz/run: which pure sources a program of the tests needs.
#
# What it needs follows from its includes: for each header src/X/Y.h that it includes, directly or through others,
# src/X/Y.c is linked as well, if there is one.  A source that needs the server fails to compile there, which keeps
# the pure files pure.

pure_flags=(-std=gnu11 -g -O1 -Isrc -Itest/unit -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare
	-Wno-missing-field-initializers -fno-omit-frame-pointer)
pure_libraries=(-ljson-c -lcrypto -lz -lm -lidn2 -lpsl)

# sources_of FILE: prints FILE and the sources that it needs, one a line.
sources_of()
{
	local -A known=([$1]=1)
	local queue=("$1") header source

	while [ ${#queue[@]} -gt 0 ]; do
		for header in $(gcc -MM "${pure_flags[@]}" "${queue[0]}" | tr -d '\\' | tr ' ' '\n' | grep '^src/.*\.h$'); do
			source=${header%.h}.c
			if [ -e "$source" ] && [ -z "${known[$source]:-}" ]; then
				known[$source]=1
				queue+=("$source")
			fi
		done
		queue=("${queue[@]:1}")
	done
	printf '%s\n' "${!known[@]}"
}
