# Module files for clusters, by version: PREFIX/share/modulefiles/moebatch/VERSION (Tcl) and VERSION.lua (Lmod).
EXTRA_DIST += scripts/moebatch.tcl.in scripts/moebatch.lua.in
MODULE_DIR = $(datadir)/modulefiles/moebatch
MODULE_EDIT = $(SED) -e 's|[@]VERSION[@]|$(PACKAGE_VERSION)|g' -e 's|[@]bindir[@]|$(bindir)|g' -e 's|[@]mandir[@]|$(mandir)|g'

install-data-local:
	$(MKDIR_P) "$(DESTDIR)$(MODULE_DIR)"
	$(MODULE_EDIT) $(srcdir)/scripts/moebatch.tcl.in >"$(DESTDIR)$(MODULE_DIR)/$(PACKAGE_VERSION)"
	$(MODULE_EDIT) $(srcdir)/scripts/moebatch.lua.in >"$(DESTDIR)$(MODULE_DIR)/$(PACKAGE_VERSION).lua"

uninstall-local:
	rm -f "$(DESTDIR)$(MODULE_DIR)/$(PACKAGE_VERSION)" "$(DESTDIR)$(MODULE_DIR)/$(PACKAGE_VERSION).lua"
	-rmdir "$(DESTDIR)$(MODULE_DIR)" 2>/dev/null
