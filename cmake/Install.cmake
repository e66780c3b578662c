# What `cmake --install` puts where: daemons, command, library, header, package files. The
# components are the packages that Package.cmake makes of it.
include(CMakePackageConfigHelpers)

install(TARGETS farpool EXPORT farpool-targets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library
                NAMELINK_COMPONENT development
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS farpool-coordinator farpool-worker farpool-command
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
install(FILES ${man_pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT runtime)
install(FILES README.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/farpool
        COMPONENT runtime)

# For systemd, and the shells' completion. /etc belongs to an installation in /usr only;
# others have an etc of their own.
set(sysconfdir ${CMAKE_INSTALL_SYSCONFDIR})
if(CMAKE_INSTALL_PREFIX STREQUAL "/usr")
  set(sysconfdir ${CMAKE_INSTALL_FULL_SYSCONFDIR})
endif()
foreach(daemon farpool-coordinator farpool-worker)
  configure_file(systemd/${daemon}.service.in ${PROJECT_BINARY_DIR}/systemd/${daemon}.service
                 @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/systemd/${daemon}.service
          DESTINATION lib/systemd/system COMPONENT runtime)
  install(FILES systemd/${daemon}.default RENAME ${daemon}
          DESTINATION ${sysconfdir}/default COMPONENT runtime)
endforeach()
set(completions ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES completion/farpool.bash RENAME farpool DESTINATION ${completions}
        COMPONENT runtime)
# bash looks for a file of the command's own name.
foreach(daemon farpool-coordinator farpool-worker)
  install(FILES completion/farpool.bash RENAME ${daemon} DESTINATION ${completions}
          COMPONENT runtime)
endforeach()
install(FILES completion/_farpool DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions
        COMPONENT runtime)

# The command finds the library beside it wherever the tree is installed to; in /usr the
# system does.
if(NOT CMAKE_INSTALL_PREFIX STREQUAL "/usr")
  set_target_properties(farpool-command PROPERTIES
    INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
endif()

install(FILES include/farpool.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        COMPONENT development)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/farpool)
install(EXPORT farpool-targets NAMESPACE Farpool:: DESTINATION ${package_dir}
        COMPONENT development)
configure_package_config_file(cmake/farpool-config.cmake.in
  ${PROJECT_BINARY_DIR}/farpool-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/farpool-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/farpool-config.cmake
  ${PROJECT_BINARY_DIR}/farpool-config-version.cmake DESTINATION ${package_dir}
  COMPONENT development)
configure_file(cmake/farpool.pc.in ${PROJECT_BINARY_DIR}/farpool.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/farpool.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
