# What `cmake --install` puts where: daemons, command, library, header, package files.
include(CMakePackageConfigHelpers)

install(TARGETS farpool EXPORT farpool-targets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS farpool-coordinator farpool-worker farpool-command
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES include/farpool.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES man/farpool.1 man/farpool-coordinator.1 man/farpool-worker.1
        DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES README.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# The command finds the library beside it wherever the tree is installed to.
set_target_properties(farpool-command PROPERTIES
  INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/farpool)
install(EXPORT farpool-targets NAMESPACE Farpool:: DESTINATION ${package_dir})
configure_package_config_file(cmake/farpool-config.cmake.in
  ${PROJECT_BINARY_DIR}/farpool-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/farpool-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/farpool-config.cmake
  ${PROJECT_BINARY_DIR}/farpool-config-version.cmake DESTINATION ${package_dir})
configure_file(cmake/farpool.pc.in ${PROJECT_BINARY_DIR}/farpool.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/farpool.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
