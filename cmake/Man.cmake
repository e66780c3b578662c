# The manual pages: a template each, and the options as --help of the program tells them.
set(man_pages)
foreach(program farpool farpool-coordinator farpool-worker)
  set(target ${program})
  if(program STREQUAL "farpool")
    set(target farpool-command)
  endif()
  set(page ${PROJECT_BINARY_DIR}/man/${program}.1)
  add_custom_command(OUTPUT ${page}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/man
    COMMAND ${PROJECT_SOURCE_DIR}/man/page $<TARGET_FILE:${target}>
            ${PROJECT_SOURCE_DIR}/man/${program}.1.in ${PROJECT_VERSION}
            ${CMAKE_INSTALL_FULL_SYSCONFDIR} > ${page}
    DEPENDS ${target} man/page man/help.awk man/${program}.1.in VERBATIM)
  list(APPEND man_pages ${page})
endforeach()
add_custom_target(man ALL DEPENDS ${man_pages})
