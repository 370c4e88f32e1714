# SPDX-License-Identifier: Apache-2.0
# The Debian packages: built, judged by lintian, and installed, upgraded and purged in systemd-box.

.PHONY: package-deps deb check-package
package-deps:
	@tests/lib/setup package

deb: package-deps
	@DHASH_BUILD=$(abspath $(BUILD)) tests/package/build $(VERSION)

check-package: deb all demo-tools
	@DHASH_BUILD=$(abspath $(BUILD)) tests/package/run || { \
		[ $$? = 77 ] && [ -z "$$CI" ] && \
		echo '*** PACKAGE TESTS SKIPPED: they need root; run make check-package as root ***'; }
