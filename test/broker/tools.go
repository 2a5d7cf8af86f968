//go:build tools

package broker

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "go.gazette.dev/core/cmd/gazctl"
	_ "go.gazette.dev/core/cmd/gazette"
)
