# sophia_stack: all, install, installcheck and clean by PGXS; check and quickstart need nothing beforehand.

EXTENSION = sophia_stack
MODULE_big = sophia_stack
EXTVERSION = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" sophia_stack.control)

SOURCES = src/sophia_stack.c $(sort $(wildcard src/*/*.c))
OBJS = $(SOURCES:.c=.o)
C_FILES = $(wildcard src/*.[ch] src/*/*.[ch] test/unit/*.[ch] test/fuzz/*.[ch])
SQL_PIECES = $(sort $(wildcard sql/[0-9]*.sql))

DATA = $(wildcard sql/updates/*--*--*.sql)
DATA_built = sql/sophia_stack--$(EXTVERSION).sql

REGRESS = $(sort $(basename $(notdir $(wildcard test/sql/*.sql))))
REGRESS_OPTS = --inputdir=test --load-extension=sophia_stack
ISOLATION = $(sort $(basename $(notdir $(wildcard test/specs/*.spec))))
ISOLATION_OPTS = --inputdir=test --outputdir=. --load-extension=sophia_stack

PG_CPPFLAGS = -Isrc -DSOPHIA_STACK_VERSION='"$(EXTVERSION)"' -fvisibility=hidden \
  '-DPGDLLEXPORT=__attribute__((visibility("default")))' \
  -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers \
  -Wno-declaration-after-statement
SHLIB_LINK = -lcurl -lhiredis -ljson-c -lz -lcrypto -lidn2 -lpsl
EXTRA_CLEAN = test/unit/bin test/fuzz/bin tmp_check

STANDALONE = check check-faults check-race check-sanitized format fuzz lint unit quickstart quickstart-stop
ifneq ($(filter $(STANDALONE),$(MAKECMDGOALS)),)

# Goals that need no pg_config.  test/run and the quickstart install what they lack themselves.
ifneq ($(filter-out $(STANDALONE),$(MAKECMDGOALS)),)
$(error $(filter $(STANDALONE),$(MAKECMDGOALS)) cannot be made together with other goals)
endif
.PHONY: $(STANDALONE)

check:
	test/run
check-faults:
	test/run faults
check-race:
	test/run race
check-sanitized:
	test/run sanitized
format:
	clang-format-14 -i $(C_FILES)
fuzz:
	test/fuzz/run
lint:
	test/lint/run
unit:
	test/unit/run
quickstart:
	test/quickstart
quickstart-stop:
	test/quickstart-stop

else

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

$(OBJS) $(OBJS:.o=.bc): $(wildcard src/*/*.h) Makefile sophia_stack.control

$(DATA_built): $(SQL_PIECES) sophia_stack.control
	cat $(SQL_PIECES) > $@

endif
