# sophia_stack: build (make), install, installcheck by PGXS; check and quickstart need nothing beforehand.

EXTENSION = sophia_stack
MODULE_big = sophia_stack
EXTVERSION = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" sophia_stack.control)

SOURCES = src/sophia_stack.c $(sort $(wildcard src/*/*.c))
OBJS = $(SOURCES:.c=.o)
SQL_PIECES = $(sort $(wildcard sql/[0-9]*.sql))

DATA = $(wildcard sql/updates/*--*--*.sql)
DATA_built = sql/sophia_stack--$(EXTVERSION).sql

REGRESS = $(sort $(basename $(notdir $(wildcard test/sql/*.sql))))
REGRESS_OPTS = --inputdir=test --load-extension=sophia_stack
ISOLATION = $(sort $(basename $(notdir $(wildcard test/specs/*.spec))))
ISOLATION_OPTS = --inputdir=test --outputdir=. --load-extension=sophia_stack

PG_CPPFLAGS = -Isrc -DSOPHIA_STACK_VERSION='"$(EXTVERSION)"' -fvisibility=hidden \
  -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers \
  -Wno-declaration-after-statement
SHLIB_LINK = -lcurl -ljson-c -lz -lcrypto
EXTRA_CLEAN = sql/sophia_stack--*.sql test/unit/bin

STANDALONE = check quickstart quickstart-stop format lint
GOALS = $(or $(MAKECMDGOALS),all)
ifneq ($(filter-out $(STANDALONE),$(GOALS)),)
PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

$(OBJS): $(wildcard src/*/*.h)

sql/sophia_stack--$(EXTVERSION).sql: $(SQL_PIECES) sophia_stack.control
	cat $(SQL_PIECES) > $@
endif
